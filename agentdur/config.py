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
import re
import sys
import tomllib
import typing
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import fields

from agentdur.core.catalog import HandlerOptions
from agentdur.core.durations import BadDuration, format_duration, parse_duration
from agentdur.core.errors import BadSetting
from agentdur.core.retry import RetryPolicy

FILE_NAME: Final = "agentdur.toml"
ENV_PREFIX: Final = "AGENTDUR_"
UNLIMITED: Final = "unlimited"
MIB: Final = 1024 * 1024

_SIZE = re.compile(r"(\d{1,15})\s*(|B|KiB|MiB|GiB|KB|MB|GB)", re.IGNORECASE)
_SIZE_UNITS: Final = {
    "": 1, "b": 1, "kib": 1024, "mib": MIB, "gib": 1024 * MIB, "kb": 10**3, "mb": 10**6, "gb": 10**9,
}  # fmt: skip
_URL = re.compile(r"https?://[^\s/]+\S*")
_PASSWORD = re.compile(r"(://[^/@:]*:)[^@/]*@")


class Kind(Struct, frozen=True):
    """How values of one sort are read, in words for people and as a function. `read` raises ValueError."""

    takes: str
    read: Callable[[Any], Any]
    write: Callable[[Any], str] = str


class Setting(Struct, frozen=True):
    """What one setting means; its name, type and default are the field it annotates."""

    kind: Kind
    doc: str


def _whole(least: int, most: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value.strip()):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError
        return value

    return read


def _read_duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        if value < timedelta(0):
            raise ValueError("a duration cannot be negative")
        return value
    if not isinstance(value, str):
        raise ValueError("a number needs its unit")
    try:
        return timedelta(milliseconds=parse_duration(value.strip()))
    except OverflowError as error:
        raise BadDuration("longer than anything can last") from error


def _read_interval(value: Any) -> timedelta:
    found = _read_duration(value)
    if not found:
        raise ValueError("zero would mean without pause")
    return found


def _write_duration(value: timedelta) -> str:
    return format_duration(_ms(value))


def _read_size(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        found = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        found = int(match[1]) * _SIZE_UNITS[match[2].lower()]
    else:
        raise ValueError
    if not 1 <= found <= 2**40:
        raise ValueError("outside 1 B … 1024 GiB")
    return found


def _write_size(value: int) -> str:
    for unit, name in ((1024 * MIB, "GiB"), (MIB, "MiB"), (1024, "KiB")):
        if value % unit == 0:
            return f"{value // unit} {name}"
    return f"{value} B"


def _read_factor(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    found = float(value)
    if not 1 <= found <= 1000:
        raise ValueError("outside 1 … 1000")
    return found


def _read_attempts(value: Any) -> int | None:
    if value is None or (isinstance(value, str) and value.strip().lower() == UNLIMITED):
        return None
    return _whole(1, 2**31)(value)


def _read_text(value: Any) -> str:
    if not isinstance(value, str | os.PathLike) or not str(value).strip():
        raise ValueError
    return str(value).strip()


def _one_of(*words: str) -> Kind:
    def read(value: Any) -> str:
        word = value.strip().lower() if isinstance(value, str) else ""
        if word not in words:
            raise ValueError
        return word

    return Kind("one of " + ", ".join(words), read)


TEXT = Kind("text", _read_text)
STORE = Kind("sqlite:///FILE or memory://", _read_text, lambda url: _PASSWORD.sub(r"\1***@", url))
FILE = Kind("a file name", lambda value: None if value is None else _read_text(value), lambda v: v or "none")


def _read_url(value: Any) -> str | None:
    if value is None or value == "none":
        return None
    found = _read_text(value)
    if not _URL.fullmatch(found):
        raise ValueError
    return found


URL = Kind(
    "an http:// or https:// address, or none", _read_url, lambda url: _PASSWORD.sub(r"\1***@", url or "none")
)
SECRET = Kind(
    "text that is not shown, or none", lambda value: None if value in (None, "none") else _read_text(value),
    lambda value: "***" if value else "none",
)  # fmt: skip
PORT = Kind("a port, 0 … 65535; 0 takes a free one", _whole(0, 65_535))
COUNT = Kind("a whole number from 1", _whole(1, 2**31))
COUNT_OR_ALL = Kind(
    "a whole number; 0 means unlimited", _whole(0, 2**31), lambda n: str(n) if n else "0 (unlimited)"
)
ATTEMPTS = Kind(
    f"a whole number from 1, or {UNLIMITED}", _read_attempts, lambda n: UNLIMITED if n is None else str(n)
)
FACTOR = Kind("a number from 1", _read_factor)
SIZE = Kind("a size such as 32 MiB, or bytes", _read_size, _write_size)
DURATION = Kind("a duration such as 500ms, 1m 30s or PT1H", _read_duration, _write_duration)
INTERVAL = Kind(DURATION.takes + ", more than 0", _read_interval, _write_duration)

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
LogFormat: TypeAlias = Literal["text", "json"]
OnMaxAttempts: TypeAlias = Literal["pause", "kill"]


class Settings(Struct, frozen=True, kw_only=True):
    """Everything a server can be told. Values given here are checked as those of any other source."""

    store: Annotated[str, Setting(STORE, "Where everything durable is kept.")] = "sqlite:///agentdur.db"
    host: Annotated[
        str, Setting(TEXT, "The address both ports listen on; loopback unless told otherwise.")
    ] = "127.0.0.1"
    ingress_port: Annotated[int, Setting(PORT, "Where handlers are called.")] = 8080
    admin_port: Annotated[int, Setting(PORT, "Where operators look and intervene.")] = 9070
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
            _one_of("pause", "kill"),
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
            DURATION, "How long the messages of a conversation are kept after a model was last asked it."
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
    log_level: Annotated[
        LogLevel, Setting(_one_of("debug", "info", "warning", "error"), "The least important lines to log.")
    ] = "info"
    log_format: Annotated[
        LogFormat, Setting(_one_of("text", "json"), "Lines for people, or one JSON object per line.")
    ] = "text"
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
            inactivity_timeout_ms=_ms(self.inactivity_timeout),
            abort_timeout_ms=_ms(self.abort_timeout),
            journal_retention_ms=_ms(self.default_journal_retention),
            idempotency_retention_ms=_ms(self.default_idempotency_retention),
            workflow_retention_ms=_ms(self.default_workflow_completion_retention),
            retry=RetryPolicy(
                delay_ms_initial=_ms(self.default_retry_policy_initial_interval),
                factor=self.default_retry_policy_exponentiation_factor,
                delay_ms_max=_ms(self.default_retry_policy_max_interval),
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


def _ms(value: timedelta) -> int:
    return value // timedelta(milliseconds=1)


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
