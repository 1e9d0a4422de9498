"""The commands, and how each of them ends.

Rules of this file:
1. A command prints facts or raises; `main` alone turns what was raised into one line and an exit code.
2. Options of the server are settings; what is not given comes from the environment, the file or the default.
"""

from __future__ import annotations

import re
import secrets
import sys
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.main import get_command

from agentdur import server
from agentdur.cli.admin_api import AdminApi, admin_url
from agentdur.cli.approvals import approvals
from agentdur.cli.demo import run_chat, run_demo
from agentdur.cli.deployments import deployments
from agentdur.cli.endpoint import endpoint
from agentdur.cli.errors import BadArgument
from agentdur.cli.invocations import invocations
from agentdur.cli.loading import find, load_app
from agentdur.cli.mcp import serve_mcp
from agentdur.cli.output import (
    EVERY,
    Every,
    Exit,
    Json,
    Watch,
    complain,
    exit_code_of,
    present,
    say,
    say_json,
    say_table,
)
from agentdur.cli.reload import serve_and_reload
from agentdur.cli.services import services
from agentdur.cli.sessions import sessions
from agentdur.cli.sql import Query, ask
from agentdur.cli.state import state
from agentdur.config import TABLE, installed_version, load_settings, shown
from agentdur.core.access import TOKEN_PREFIX, read_tokens, written_token
from agentdur.core.errors import AgentdurError, BadSetting

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="AI agents that survive crashes: serve them, look at them, intervene.",
)

Target = Annotated[str, typer.Argument(metavar="FILE[:APP]", help="A file or a module, and the App in it.")]
MaybeTarget = Annotated[
    str | None,
    typer.Argument(metavar="[FILE[:APP]]", help="A file or a module, and the App in it.", show_default=False),
]
Store = Annotated[str | None, typer.Option(help="sqlite:///FILE or memory://", show_default=False)]
Host = Annotated[str | None, typer.Option(help="The address to listen on.", show_default=False)]
IngressPort = Annotated[int | None, typer.Option(help="Where handlers are called.", show_default=False)]
AdminPort = Annotated[int | None, typer.Option(help="Where operators look.", show_default=False)]
LogLevel = Annotated[str | None, typer.Option(help="debug, info, warning or error.", show_default=False)]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="A settings file instead of agentdur.toml.", show_default=False),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Any other setting; may be repeated.", show_default=False
    ),
]
AdminUrl = Annotated[
    str | None,
    typer.Option(
        "--admin-url", help="The server's admin API; default: where the settings put it.", show_default=False
    ),
]
AdminToken = Annotated[
    str | None,
    typer.Option(
        "--admin-token", help="Who asks. Better in AGENTDUR_ADMIN_TOKEN: others can see a command's options.",
        show_default=False,
    ),
]  # fmt: skip


CHAT_FILE = "agentdur-demo-chat.db"
TOKEN_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@app.command()
def serve(
    target: MaybeTarget = None,
    *,
    store: Store = None,
    host: Host = None,
    ingress_port: IngressPort = None,
    admin_port: AdminPort = None,
    log_level: LogLevel = None,
    config: ConfigFile = None,
    set_: Set = None,
) -> None:
    """Serve an App: engine, ingress and admin API, until SIGTERM or Ctrl-C. Without a file: only what is
    registered as a deployment."""
    given = {
        "store": store,
        "host": host,
        "ingress_port": ingress_port,
        "admin_port": admin_port,
        "log_level": log_level,
        **_pairs(set_),
    }
    loaded = load_settings(given, file=config)
    found = load_app(target) if target is not None else server.App()
    try:
        code = server.serve(found, loaded.settings, server.store_of(found, loaded))
    except SystemExit:
        code = (
            Exit.FAILURE
        )  # a web server ends the process with codes of its own; they mean other things here
    raise typer.Exit(code)


@app.command()
def dev(
    target: Target,
    *,
    store: Store = None,
    host: Host = None,
    ingress_port: IngressPort = None,
    admin_port: AdminPort = None,
    log_level: LogLevel = None,
    config: ConfigFile = None,
    set_: Set = None,
) -> None:
    """Like serve, and starts again when a Python file beside the App changes; what ran goes on."""
    options = {
        "--store": store,
        "--host": host,
        "--ingress-port": ingress_port,
        "--admin-port": admin_port,
        "--log-level": log_level,
        "--config": config,
    }
    arguments = [target]
    for option, value in options.items():
        if value is not None:
            arguments += [option, str(value)]
    for pair in set_ or ():
        arguments += ["--set", pair]
    load_settings({**_pairs(set_)}, file=config)  # a bad setting is told once, not after each change
    raise typer.Exit(serve_and_reload(arguments, find(target).folder, _tell))


@app.command()
def config(file: ConfigFile = None, as_json: Json = False) -> None:
    """All settings: value, source and meaning."""
    loaded = load_settings(file=file)
    rows = [(name, shown(name, getattr(loaded.settings, name)), loaded.sources[name]) for name in TABLE]
    if as_json:
        say_json({name: {"value": value, "source": source} for name, value, source in rows})
    else:
        say_table(
            ("setting", "value", "source", "meaning"),
            [(name.replace("_", "-"), value, source, TABLE[name].doc) for name, value, source in rows],
        )
    for stranger in loaded.strangers:
        _tell(f"warning: {stranger} is set, but is no setting")


@app.command()
def version() -> None:
    """The version of this command."""
    say(f"agentdur {installed_version()} (Python {sys.version.split()[0]})")


@app.command()
def status(
    admin: AdminUrl = None, token: AdminToken = None, file: ConfigFile = None, as_json: Json = False
) -> None:
    """Whether a server is up, its version, and what it serves."""
    api = _api(admin, file, token)
    api.get("/health")
    services = api.part("/services", "services")
    facts = api.get("/version")
    if as_json:
        say_json({"admin": api.url, **facts, "services": services})
        return
    say(f"agentdur {facts['version']} at {api.url}, ingress at {facts['ingress_endpoint']}")
    rows = [(one["name"], one["ty"], ", ".join(h["name"] for h in one["handlers"])) for one in services]
    say_table(("service", "type", "handlers"), rows)


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="Whose it is: letters, digits, - and _.")],
    *,
    role: Annotated[Literal["viewer", "operator", "admin"], typer.Option(help="What it allows.")] = "viewer",
    file: Annotated[Path, typer.Option(help="The access-file it is added to.")] = Path("access.toml"),
) -> None:
    """Make a token for the admin port. It is said once; the file keeps its hash."""
    if not TOKEN_NAME.fullmatch(name):
        raise BadArgument(f"{name!r} is no name: letters, digits, - and _")
    known = file.read_text(encoding="utf-8") if file.exists() else ""
    if any(name == one for one, _, _ in read_tokens(known).known):
        raise BadArgument(f"{file} has a token for {name} already: remove it there first")
    made = TOKEN_PREFIX + secrets.token_urlsafe(32)
    with file.open("a", encoding="utf-8") as written:
        written.write(("\n" if known else "") + written_token(name, role, made))
    say(made)


@app.command()
def demo(
    what: Annotated[
        Literal["crash", "chat"], typer.Argument(help="crash: an agent is killed; chat.")
    ] = "crash",
    *,
    store: Annotated[
        str | None, typer.Option(help="Where the chat is remembered.", show_default=False)
    ] = None,
    session: Annotated[str, typer.Option(help="Which chat.")] = "demo",
) -> None:
    """Watch an agent being killed in the middle of its work and going on, or talk to one."""
    if what == "chat":
        raise typer.Exit(run_chat(store or f"sqlite:///{CHAT_FILE}", session))
    raise typer.Exit(run_demo(say))


@app.command()
def sql(
    query: Query,
    *,
    admin: AdminUrl = None,
    token: AdminToken = None,
    file: ConfigFile = None,
    as_json: Json = False,
    watch: Watch = False,
    every: Every = EVERY,
) -> None:
    """Ask the tables of `POST /query`: sys_invocation, sys_journal, state and the others."""
    api = _api(admin, file, token)
    present(lambda: ask(api, query), as_json=as_json, watch=watch, every=every)


@app.command()
def mcp(
    *,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Only the tools that change nothing.")
    ] = False,
    approve: Annotated[
        bool, typer.Option("--approve", help="Also tools that decide what people were asked.")
    ] = False,
    http: Annotated[
        int | None,
        typer.Option(metavar="PORT", help="Streamable HTTP on this machine's port, not stdio."),
    ] = None,
    admin: AdminUrl = None,
    token: AdminToken = None,
    file: ConfigFile = None,
) -> None:
    """Serve the admin API to coding agents by the Model Context Protocol: they list, read and fork runs."""
    if read_only and approve:
        raise BadArgument("--read-only and --approve exclude each other")
    serve_mcp(_api(admin, file, token), read_only=read_only, approve=approve, port=http)


def reach(
    context: typer.Context, admin_url: AdminUrl = None, admin_token: AdminToken = None,
    file: ConfigFile = None,
) -> None:  # fmt: skip
    """Which server the commands of a group ask."""
    context.obj = _api(admin_url, file, admin_token)


app.command()(endpoint)
for name, group in (
    ("deployments", deployments), ("invocations", invocations), ("services", services), ("state", state),
    ("approvals", approvals), ("sessions", sessions),
):  # fmt: skip
    group.callback(help=group.info.help)(reach)
    app.add_typer(group, name=name)


@cache
def command() -> Any:
    """All commands, read from their functions once."""
    return get_command(app)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    try:
        command()(args=arguments, prog_name="agentdur")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else Exit.OK
    except AgentdurError as error:
        complain(error)
        return exit_code_of(error)
    except OSError as error:  # a port that is taken, a folder that cannot be written
        complain(error)
        return Exit.FAILURE
    return Exit.OK


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _api(url: str | None, file: Path | None, token: str | None) -> AdminApi:
    settings = load_settings({"admin_token": token}, file=file).settings
    return AdminApi(url or admin_url(settings), settings.admin_token)


def _pairs(given: list[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in given or ():
        name, equals, value = pair.partition("=")
        if not equals:
            raise BadSetting(f"--set takes NAME=VALUE, not {pair!r}")
        found[name.strip().replace("-", "_")] = value
    return found
