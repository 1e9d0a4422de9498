"""The same services twice, each calling those of the other: one set in this process, one at a deployment."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from agentdur import (
    Context,
    ObjectContext,
    ObjectSharedContext,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
)
from agentdur.sdk.service import BaseService

begun: list[str] = []
"""Handlers of either side that wait to be ended from outside, by (side, name)."""
undone: list[str] = []


def services(name: str, other: str) -> list[BaseService]:
    """A service, an object and a workflow of the side `name`."""
    svc = Service(f"{name}Svc")
    _add_ends(svc, name, other)
    _add_calls(svc, other)
    return [svc, *_keyed(name)]


def _add_ends(svc: Service, name: str, other: str) -> None:
    """What is called, and what is ended from outside."""

    @svc.handler()
    async def echo(ctx: Context, text: str) -> str:
        return f"{name} {text}"

    @svc.handler()
    async def refuse(ctx: Context) -> None:
        raise TerminalError("no tea", 418)

    @svc.handler()
    async def wake(ctx: Context, awakeable: str) -> None:
        ctx.resolve_awakeable(awakeable, f"woken by {name}")

    @svc.handler()
    async def parent(ctx: Context) -> None:
        begun.append(f"{name} parent")
        await ctx.generic_call(f"{other}Svc", "child", b"")

    @svc.handler()
    async def child(ctx: Context) -> None:
        begun.append(f"{name} child")
        try:
            await ctx.sleep(timedelta(minutes=5))
        except TerminalError:
            undone.append(f"{name} child")
            raise


def _add_calls(svc: Service, other: str) -> None:
    """What calls the other side."""

    @svc.handler()
    async def calls(ctx: Context) -> list[str]:
        """A call, one that is made once only, a delayed one that is attached to, one that fails."""
        said = [await ctx.generic_call(f"{other}Svc", "echo", b'"hi"')]
        for text in (b'"one"', b'"two"'):
            said.append(await ctx.generic_call(f"{other}Svc", "echo", text, idempotency_key="once"))
        late = ctx.generic_send(f"{other}Svc", "echo", b'"late"', send_delay=timedelta(milliseconds=20))
        said.append(await ctx.attach_invocation(await late.invocation_id(), type_hint=bytes))
        try:
            await ctx.generic_call(f"{other}Svc", "refuse", b"")
        except TerminalError as error:
            said.append(f"{error.status_code} {error.message}".encode())
        return [text.decode() for text in said]

    @svc.handler()
    async def keyed(ctx: Context, key: str) -> list[Any]:
        """The other side's object and workflow."""
        adds = (ctx.generic_call(f"{other}Obj", "add", b"%d" % n, key) for n in (1, 2, 3))
        sums = sorted(int(total) for total in await asyncio.gather(*adds))
        state = (await ctx.generic_call(f"{other}Obj", "look", b"", key)).decode()
        run = ctx.generic_send(f"{other}Wf", "run", b'"from here "', key)
        await ctx.generic_call(f"{other}Wf", "finish", b'"to there"', key)
        ended = await ctx.attach_invocation(await run.invocation_id(), type_hint=str)
        name, answer = ctx.awakeable(type_hint=str)
        ctx.generic_send(f"{other}Svc", "wake", f'"{name}"'.encode())
        return [sums, state, ended, await answer]


def _keyed(name: str) -> list[BaseService]:
    obj, wf = VirtualObject(f"{name}Obj"), Workflow(f"{name}Wf")

    @obj.handler()
    async def add(ctx: ObjectContext, n: int) -> int:
        total = (await ctx.get("n", type_hint=int) or 0) + n
        await ctx.sleep(timedelta(milliseconds=5))  # others of the key wait
        ctx.set("n", total)
        return total

    @obj.handler(kind="shared")
    async def look(ctx: ObjectSharedContext) -> dict[str, Any]:
        return {key: await ctx.get(key) for key in await ctx.state_keys()}

    @wf.main()
    async def run(ctx: WorkflowContext, start: str) -> str:
        return start + await ctx.promise("end", type_hint=str).value()

    @wf.handler()
    async def finish(ctx: WorkflowSharedContext, end: str) -> None:
        await ctx.promise("end", type_hint=str).resolve(end)

    return [obj, wf]
