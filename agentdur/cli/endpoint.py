"""`agentdur endpoint`: the handlers for a server that runs elsewhere."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from agentdur.cli.loading import load_app
from agentdur.cli.output import Exit, Refused, say

try:
    from hypercorn.asyncio import serve as serve_http
    from hypercorn.config import Config
except ModuleNotFoundError:  # the extra is not installed: told when it is needed
    serve_http = None  # type: ignore[assignment]  # stands for "not installed"

PORT = 9080

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
    if serve_http is None:
        hint = "an endpoint speaks HTTP/2 through hypercorn: pip install 'agentdur[endpoint]'"
        raise Refused(hint, Exit.FAILURE)
    app = load_app(target)
    config = Config()
    config.bind = [f"{host}:{port}"]
    config.loglevel = "WARNING"
    names = ", ".join(service.name for service in app.services)
    say(f"agentdur endpoint: {names} at http://{host}:{port}/")
    served: Any = app.endpoint(identity_keys=identity_key or ())  # hypercorn types messages its own way
    asyncio.run(serve_http(served, config, mode="asgi"))
