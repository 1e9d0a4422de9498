"""`agentdur endpoint`: the handlers for a server that runs elsewhere."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Annotated

import typer

from agentdur.cli.errors import MissingExtra
from agentdur.cli.loading import load_app
from agentdur.cli.output import say
from agentdur.config import load_settings
from agentdur.server import log_as, loops

PORT = 9080
UNLIMITED = 2**31 - 1

Target = Annotated[str, typer.Argument(metavar="FILE[:APP]", help="A file or a module, and the App in it.")]
Host = Annotated[str, typer.Option(help="The address to listen on.")]
Port = Annotated[int, typer.Option(help="Where the server finds the handlers.")]
Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--identity-key", metavar="PUBLICKEYV1_…", show_default=False,
        help="A server that may call; may be repeated. Default: all.",
    ),
]  # fmt: skip


def endpoint(target: Target, host: Host = "127.0.0.1", port: Port = PORT, identity_key: Keys = None) -> None:
    """Serve an App's handlers to a Restate server: HTTP/2 and HTTP/1.1, no engine, no store."""
    try:
        http, config = import_module("hypercorn.asyncio"), import_module("hypercorn.config").Config()
    except ModuleNotFoundError as error:  # the extra; other commands do not need it, and start faster without
        hint = "an endpoint speaks HTTP/2 through hypercorn: pip install 'agentdur[endpoint]'"
        raise MissingExtra(hint) from error
    log_as(load_settings().settings)
    app = load_app(target)
    config.bind = [f"{host}:{port}"]
    config.loglevel = "WARNING"
    config.include_date_header = config.include_server_header = (
        False  # a server of ours or Restate reads neither
    )
    # One connection of a server carries all its invocations, for as long as it likes.
    config.h2_max_concurrent_streams = config.keep_alive_max_requests = UNLIMITED
    config.keep_alive_timeout = float(UNLIMITED)
    names = ", ".join(service.name for service in app.services)
    say(f"agentdur endpoint: {names} at http://{host}:{port}/")
    served = app.endpoint(identity_keys=identity_key or ())
    with asyncio.Runner(loop_factory=loops().new_event_loop) as runner:
        runner.run(http.serve(served, config, mode="asgi"))
