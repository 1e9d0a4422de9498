"""The services of the comparison, written once for any SDK with Restate's names."""

from __future__ import annotations

from datetime import timedelta
from typing import Any


def services(sdk: Any) -> list[Any]:
    """`sdk`: whose Service, VirtualObject, Workflow, TerminalError and BytesSerde are used."""
    as_bytes = {"accept": "*/*", "input_serde": sdk.BytesSerde()}
    board, put = board_of(sdk)
    return [*plain(sdk, as_bytes, put), board, *keyed(sdk, as_bytes)]


def plain(sdk: Any, as_bytes: dict[str, Any], put: Any) -> list[Any]:
    """Services without keys; `approve` puts its awakeable on the board."""
    echo, hidden = sdk.Service("Echo"), sdk.Service("Hidden", ingress_private=True)

    @echo.handler("echo")
    async def echo_back(ctx: Any, value: Any) -> Any:
        return value

    @echo.handler("raw", content_type="text/plain", output_serde=sdk.BytesSerde(), **as_bytes)
    async def raw(ctx: Any, value: bytes) -> bytes:
        return value

    @echo.handler("nothing")
    async def nothing(ctx: Any) -> None:
        return None

    @echo.handler("fail")
    async def fail(ctx: Any, asked: dict[str, Any]) -> None:
        metadata = asked.get("metadata")
        raise sdk.TerminalError(asked.get("message", "m"), status_code=asked["code"], metadata=metadata)

    @echo.handler("slow")
    async def slow(ctx: Any, ms: int) -> str:
        await ctx.sleep(timedelta(milliseconds=ms))
        return "slept"

    @echo.handler("fleeting", journal_retention=timedelta(0))
    async def fleeting(ctx: Any, ms: int) -> str:
        await ctx.sleep(timedelta(milliseconds=ms))
        return "slept"

    @echo.handler("approve")
    async def approve(ctx: Any) -> Any:
        awakeable, answer = ctx.awakeable()
        ctx.object_send(put, key="asked", arg=awakeable)
        return await answer

    @echo.handler("seen", **as_bytes)
    async def seen(ctx: Any, value: bytes) -> dict[str, Any]:
        return {"headers": [list(pair) for pair in ctx.request().headers.items()]}

    @echo.handler("hidden", ingress_private=True)
    async def hidden_handler(ctx: Any) -> None:
        return None

    @hidden.handler("seen")
    async def hidden_service(ctx: Any) -> None:
        return None

    return [echo, hidden]


def keyed(sdk: Any, as_bytes: dict[str, Any]) -> list[Any]:
    """An object and a workflow."""
    counter, signup = sdk.VirtualObject("Counter"), sdk.Workflow("Signup")

    @counter.handler("seen", **as_bytes)
    async def key_seen(ctx: Any, value: bytes) -> dict[str, Any]:
        return {"key": ctx.key()}

    @counter.handler("slow", kind="shared")
    async def counter_slow(ctx: Any, ms: int) -> str:
        await ctx.sleep(timedelta(milliseconds=ms))
        return "slept"

    @signup.main("run")
    async def run(ctx: Any, ms: int) -> str:
        await ctx.sleep(timedelta(milliseconds=ms))
        return "signed up"

    @signup.handler("seen", **as_bytes)
    async def workflow_seen(ctx: Any, value: bytes) -> dict[str, Any]:
        return {"key": ctx.key()}

    return [counter, signup]


def board_of(sdk: Any) -> tuple[Any, Any]:
    """An object that keeps a text, and the handler that puts it there."""
    board = sdk.VirtualObject("Board")

    @board.handler("put")
    async def put(ctx: Any, text: str) -> None:
        ctx.set("text", text)

    @board.handler("take")
    async def take(ctx: Any) -> Any:
        text = await ctx.get("text")
        ctx.clear("text")
        return text

    return board, put
