"""Settings: one table of names, defaults and meanings, and the places they come from.

Rules of this file:
1. The sources, first one wins: argument or command-line option, `AGENTDUR_<NAME>`, `agentdur.toml`, default.
2. Whatever the source, a value is checked the same way; a bad one is a BadSetting that names the setting, the
   source and what it takes.
3. `docs/reference/settings.md` is `settings_page()`; there is no second list to keep in step.
"""

from __future__ import annotations

import difflib
import os
import sys
import tomllib
import typing
from collections.abc import Iterator, Mapping
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import fields

from agentdur.core.catalog import HandlerOptions
from agentdur.core.errors import BadSetting
from agentdur.core.retry import RetryPolicy
from agentdur.setting_kinds import (
    ATTEMPTS,
    COUNT,
    COUNT_OR_ALL,
    DURATION,
    FACTOR,
    FILE,
    HOSTS,
    INTERVAL,
    MIB,
    NAME,
    ORIGINS,
    ORIGINS_OR_ALL,
    PORT,
    RATIO,
    SECRET,
    SIZE,
    STORE,
    SWITCH,
    TEXT,
    URL,
    Setting,
    one_of,
    to_ms,
)

FILE_NAME: Final = "agentdur.toml"
ENV_PREFIX: Final = "AGENTDUR_"

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
LogFormat: TypeAlias = Literal["text", "json"]
OtelContent: TypeAlias = Literal["none", "errors", "all"]
PayloadRole: TypeAlias = Literal["viewer", "operator", "admin", "nobody"]
SqlRole: TypeAlias = Literal["viewer", "operator", "admin"]
OnMaxAttempts: TypeAlias = Literal["pause", "kill"]


class Settings(Struct, frozen=True, kw_only=True):
    """Everything a server can be told. Values given here are checked as those of any other source."""

    store: Annotated[str, Setting(STORE, "Where everything durable is kept.")] = "sqlite:///agentdur.db"
    host: Annotated[
        str, Setting(TEXT, "The address both ports listen on; loopback unless told otherwise.")
    ] = "127.0.0.1"
    ingress_port: Annotated[int, Setting(PORT, "Where handlers are called.")] = 8080
    admin_port: Annotated[int, Setting(PORT, "Where operators look and intervene.")] = 9070
    allowed_hosts: Annotated[
        tuple[str, ...],
        Setting(
            HOSTS,
            "Names the server is asked by; on loopback, without any: this machine's and `public-url`'s.",
        ),
    ] = ()
    admin_origins: Annotated[
        tuple[str, ...],
        Setting(ORIGINS, "Web pages that may act on the admin port, beside its own."),
    ] = ()
    cors_origins: Annotated[
        tuple[str, ...],
        Setting(
            ORIGINS_OR_ALL, "Web pages that may call the ingress; none: on loopback this machine's, else all."
        ),
    ] = ()
    access_file: Annotated[
        str | None, Setting(FILE, "Tokens with roles (TOML); without one nobody is asked who he is.")
    ] = None
    payload_role: Annotated[
        PayloadRole,
        Setting(one_of("viewer", "operator", "admin", "nobody"), "The least role that sees payloads."),
    ] = "operator"
    sql_role: Annotated[
        SqlRole, Setting(one_of("viewer", "operator", "admin"), "The least role that may ask in SQL.")
    ] = "admin"
    admin_token: Annotated[
        str | None, Setting(SECRET, "What commands show to the admin port of a server that asks for it.")
    ] = None
    inactivity_timeout: Annotated[
        timedelta, Setting(DURATION, "An attempt that waits this long is asked to suspend.")
    ] = timedelta(minutes=1)
    abort_timeout: Annotated[
        timedelta, Setting(DURATION, "One that does not suspend this long after being asked is aborted.")
    ] = timedelta(minutes=10)
    cleanup_interval: Annotated[
        timedelta,
        Setting(INTERVAL, "How often records past their retention are swept; until then they answer."),
    ] = timedelta(hours=1)
    default_retry_policy_initial_interval: Annotated[
        timedelta, Setting(DURATION, "The wait after the first failed attempt.")
    ] = timedelta(milliseconds=500)
    default_retry_policy_exponentiation_factor: Annotated[
        float, Setting(FACTOR, "Each further wait is this many times the one before.")
    ] = 2.0
    default_retry_policy_max_interval: Annotated[
        timedelta, Setting(DURATION, "No wait is longer, up to 30 % of jitter aside.")
    ] = timedelta(minutes=1)
    default_retry_policy_max_attempts: Annotated[
        int | None, Setting(ATTEMPTS, "Attempts in one running stretch, the first one included.")
    ] = 70
    default_retry_policy_on_max_attempts: Annotated[
        OnMaxAttempts,
        Setting(
            one_of("pause", "kill"),
            "After the last attempt: wait for an operator, or end with the last error.",
        ),
    ] = "pause"
    default_journal_retention: Annotated[
        timedelta, Setting(DURATION, "How long a journal is kept after the end; 0 keeps none.")
    ] = timedelta(days=1)
    default_idempotency_retention: Annotated[
        timedelta, Setting(DURATION, "How long the result of a request with an idempotency key is kept.")
    ] = timedelta(days=1)
    default_workflow_completion_retention: Annotated[
        timedelta,
        Setting(DURATION, "How long a workflow's result, state and promises are kept after its end."),
    ] = timedelta(days=1)
    message_retention: Annotated[
        timedelta,
        Setting(
            DURATION,
            "How long the messages of a conversation are kept after a model was last asked it. An endpoint"
            " has the server keep them as long; 0: not at all.",
        ),
    ] = timedelta(days=7)
    request_identity_key: Annotated[
        str | None, Setting(FILE, "An ed25519 key (PEM) that signs requests to deployments.")
    ] = None
    public_url: Annotated[
        str | None, Setting(URL, "Where people reach the ingress, for links; without it, its own address.")
    ] = None
    approval_webhook: Annotated[
        str | None, Setting(URL, "Told of every question of ctx.approval, unless the question names others.")
    ] = None
    approval_link_key: Annotated[
        str | None,
        Setting(SECRET, "Signs links and notices of approvals; without one the store has its own."),
    ] = None
    approval_retention: Annotated[timedelta, Setting(DURATION, "How long a decided approval is kept.")] = (
        timedelta(days=30)
    )
    node_name: Annotated[
        str | None, Setting(NAME, "What this server is called where it is shown; without it, the machine.")
    ] = None
    log_level: Annotated[
        LogLevel, Setting(one_of("debug", "info", "warning", "error"), "The least important lines to log.")
    ] = "info"
    log_format: Annotated[
        LogFormat, Setting(one_of("text", "json"), "Lines for people, or one JSON object per line.")
    ] = "text"
    metrics: Annotated[
        bool, Setting(SWITCH, "Count what happens, and answer `/metrics` on the admin port.")
    ] = True
    otel_endpoint: Annotated[
        str | None,
        Setting(
            URL, "A collector of OpenTelemetry (OTLP over HTTP); without it, the standard variables say."
        ),
    ] = None
    otel_headers: Annotated[
        str | None, Setting(SECRET, "What it is sent along with: `name=value,name=value`, percent-encoded.")
    ] = None
    otel_service_name: Annotated[
        str | None, Setting(NAME, "`service.name` of what is sent; without it, the standard variables say.")
    ] = None
    otel_content: Annotated[
        OtelContent,
        Setting(
            one_of("none", "errors", "all"),
            "What spans may quote: nothing, messages of errors, or also prompts, answers and payloads.",
        ),
    ] = "errors"
    otel_content_limit: Annotated[
        int, Setting(SIZE, "Characters of one quotation in a span; the rest is left out.")
    ] = 8 * 1024
    otel_sample_ratio: Annotated[
        float, Setting(RATIO, "The part of traces that leaves, where the caller has not decided it.")
    ] = 1.0
    otel_loop_share_limit: Annotated[
        float,
        Setting(RATIO, "The part of the engine's time that telemetry may take; fewer traces begin above it."),
    ] = 0.1
    otel_metric_interval: Annotated[
        timedelta, Setting(INTERVAL, "How often metrics are sent to the collector.")
    ] = timedelta(minutes=1)
    otel_queue_limit: Annotated[
        int,
        Setting(COUNT, "Transitions of invocations that may wait to be told on; further ones are left out."),
    ] = 100_000
    request_size_limit: Annotated[
        int, Setting(SIZE, "Bytes of one request's body; larger ones are answered 413.")
    ] = 32 * MIB
    entry_size_limit: Annotated[
        int, Setting(SIZE, "Bytes of one journal entry or state value; a larger one fails the attempt.")
    ] = 32 * MIB
    journal_length_limit: Annotated[
        int,
        Setting(
            COUNT,
            "Entries of one journal. Every replay reads them all, so that more is nearly always a loop "
            "that should have become a chain of invocations.",
        ),
    ] = 100_000
    tool_answer_limit: Annotated[
        int, Setting(SIZE, "Bytes of a tool's answer; the model is told of a larger one instead.")
    ] = 256 * 1024
    concurrent_requests_limit: Annotated[
        int, Setting(COUNT_OR_ALL, "Requests the ingress serves at a time; further ones are answered 429.")
    ] = 0
    failed_attempts_limit: Annotated[
        int, Setting(COUNT, "Failed attempts of one invocation that are kept to be shown, the newest ones.")
    ] = 50
    live_attempts_limit: Annotated[
        int, Setting(COUNT, "Attempts kept in memory; above it those that only wait are parked.")
    ] = 1000
    stream_size_limit: Annotated[
        int, Setting(SIZE, "Bytes of what one step streams; what is over it is left out, and said to be.")
    ] = 4 * MIB
    stream_readers_limit: Annotated[
        int, Setting(COUNT, "Streams that are read at a time; further readers are answered 429.")
    ] = 10_000
    stream_readers_per_invocation_limit: Annotated[
        int, Setting(COUNT, "Readers of one invocation at a time; further ones are answered 429.")
    ] = 1000
    stream_heartbeat_interval: Annotated[
        timedelta, Setting(INTERVAL, "A stream over HTTP that has nothing to say says so this often.")
    ] = timedelta(seconds=15)
    stream_stall_timeout: Annotated[
        timedelta,
        Setting(INTERVAL, "A client that takes nothing of its stream for so long is cut; it may come back."),
    ] = timedelta(seconds=30)
    query_timeout: Annotated[
        timedelta, Setting(INTERVAL, "What a query in SQL may take; then it is interrupted.")
    ] = timedelta(seconds=10)
    query_rows_limit: Annotated[int, Setting(COUNT, "Rows of a query's answer.")] = 100_000
    query_size_limit: Annotated[
        int, Setting(SIZE, "Bytes of a query's answer, and of any value on the way to it.")
    ] = 32 * MIB
    query_concurrency: Annotated[
        int, Setting(COUNT, "Queries that run at a time, each on a thread; further ones wait.")
    ] = 4
    query_queue_limit: Annotated[int, Setting(COUNT, "Queries that wait; further ones are answered 429.")] = (
        64
    )
    search_timeout: Annotated[
        timedelta,
        Setting(INTERVAL, "What one search for text looks, newest first; then it says how far it came."),
    ] = timedelta(seconds=2)
    shutdown_timeout: Annotated[
        timedelta, Setting(DURATION, "How long requests under way may finish after a stop was asked for.")
    ] = timedelta(seconds=10)

    def __post_init__(self) -> None:
        for name, setting in TABLE.items():
            value = getattr(self, name)
            if checked(name, setting, value, "argument") != value:
                raise BadSetting(
                    f"{name} = {value!r} (argument): takes {setting.kind.takes}, in its Python type"
                )

    def handler_options(self) -> HandlerOptions:
        """The defaults that services and handlers inherit, in the engine's words."""
        return HandlerOptions(
            inactivity_timeout_ms=to_ms(self.inactivity_timeout),
            abort_timeout_ms=to_ms(self.abort_timeout),
            journal_retention_ms=to_ms(self.default_journal_retention),
            idempotency_retention_ms=to_ms(self.default_idempotency_retention),
            workflow_retention_ms=to_ms(self.default_workflow_completion_retention),
            retry=RetryPolicy(
                delay_ms_initial=to_ms(self.default_retry_policy_initial_interval),
                factor=self.default_retry_policy_exponentiation_factor,
                delay_ms_max=to_ms(self.default_retry_policy_max_interval),
                attempts_max=self.default_retry_policy_max_attempts,
                on_exhausted=self.default_retry_policy_on_max_attempts,
            ),
        )


def _table() -> dict[str, Setting]:
    hints = typing.get_type_hints(Settings, include_extras=True)
    return {
        field.name: next(extra for extra in typing.get_args(hints[field.name]) if isinstance(extra, Setting))
        for field in fields(Settings)
    }


TABLE: Final = _table()
"""Every setting by its Python name, in the order of the reference."""


class Loaded(Struct, frozen=True):
    """The settings, and where each came from. `strangers`: `AGENTDUR_…` variables that are no setting."""

    settings: Settings
    sources: dict[str, str]
    strangers: tuple[str, ...] = ()


def load_settings(
    arguments: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
    folder: Path | None = None,
) -> Loaded:
    """All sources put together. `arguments` by Python name; None is not given.

    A given `file` must exist; without one `agentdur.toml` of `folder` (the current one) is read if it exists.
    """
    environ = os.environ if environ is None else environ
    layers = (
        dict(_from_file(file, folder or Path.cwd())),
        dict(_from_environment(environ)),
        dict(_from_arguments(arguments or {})),
    )
    values: dict[str, Any] = {}
    sources = dict.fromkeys(TABLE, "default")
    for layer in layers:
        for name, (raw, source) in layer.items():
            values[name] = checked(name, TABLE[name], raw, source)
            sources[name] = source
    return Loaded(Settings(**values), sources, tuple(_strangers(environ)))


def checked(name: str, setting: Setting, raw: Any, source: str) -> Any:
    """The value `raw` stands for; BadSetting when it stands for none."""
    try:
        return setting.kind.read(raw)
    except ValueError as error:
        why = f"; {error}" if str(error) and "could not convert" not in str(error) else ""
        raise BadSetting(f"{name} = {raw!r} ({source}): takes {setting.kind.takes}{why}") from error


def shown(name: str, value: Any) -> str:
    """A value as the settings file would say it; passwords are hidden."""
    return TABLE[name].kind.write(value)


def _from_arguments(arguments: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, str]]]:
    for name, raw in arguments.items():
        if name not in TABLE:
            raise BadSetting(f"no setting {name!r} (argument){_nearest(name, TABLE)}")
        if raw is not None:
            yield name, (raw, "argument")


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, tuple[Any, str]]]:
    for name in TABLE:
        variable = ENV_PREFIX + name.upper()
        if raw := environ.get(variable):
            yield name, (raw, variable)


def _strangers(environ: Mapping[str, str]) -> Iterator[str]:
    known = {ENV_PREFIX + name.upper() for name in TABLE}
    return (name for name in sorted(environ) if name.startswith(ENV_PREFIX) and name not in known)


def _from_file(file: Path | None, folder: Path) -> Iterator[tuple[str, tuple[Any, str]]]:
    path = file or folder / FILE_NAME
    if file is None and not path.is_file():
        return
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadSetting(f"{path} cannot be read: {error}") from error
    known = {name.replace("_", "-"): name for name in TABLE}
    for key, raw in _flat(written, ""):
        if key not in known:
            raise BadSetting(f"no setting {key!r} ({path.name}){_nearest(key, known)}")
        yield known[key], (raw, path.name)


def _flat(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """A table `[default-retry-policy]` is another way to write its keys with the prefix."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}-")
        else:
            yield prefix + key, value


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"


def installed_version() -> str:
    """The version of this package; `unknown` when it runs from a folder without being installed."""
    try:
        return version("agentdur")
    except PackageNotFoundError:
        return "unknown"


# The reference page


def settings_page() -> str:
    """The text of docs/reference/settings.md."""
    default = Settings()
    rows = [
        f"| `{name.replace('_', '-')}` | `{shown(name, getattr(default, name))}` "
        f"| {setting.kind.takes} | {setting.doc} |"
        for name, setting in TABLE.items()
    ]
    return "\n".join((_PAGE_HEAD, *rows, _PAGE_FOOT))


_PAGE_HEAD = """\
# Settings

Generated from the settings themselves: `python -m agentdur.config > docs/reference/settings.md`.

The first source that names a setting wins:

1. an option of `agentdur serve` or `agentdur dev` (`--ingress-port 8081`), or an argument
   (`Settings(ingress_port=8081)`);
2. the environment: `AGENTDUR_` and the name in capitals (`AGENTDUR_INGRESS_PORT=8081`); empty means absent;
3. `agentdur.toml` in the current folder, or the file named by `--config` (`ingress-port = 8081`);
4. the default.

In the file a table is another way to write a common beginning: `max-attempts = 5` under
`[default-retry-policy]` is `default-retry-policy-max-attempts = 5`. A name that is no setting is refused,
and the nearest one that is a setting is named.
`agentdur config` prints every setting with its value and its source.

| setting | default | takes | meaning |
|---|---|---|---|"""

_PAGE_FOOT = """
A service or handler may bring its own timeouts, retention and retry policy; those win over the defaults here,
field by field.
"""

if __name__ == "__main__":
    sys.stdout.write(settings_page())
