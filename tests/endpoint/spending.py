"""Handlers whose models are paid from one purse, for an endpoint that a real server drives."""

import asyncio
import os
from typing import Any

from agentdur import App, Context, ObjectContext, Service, VirtualObject
from agentdur.llm import Budget, BudgetExceeded, budget, completion
from agentdur.llm.shared import SharedAccount

MODEL = os.environ.get("AGENT_MODEL", "openai/scripted")
family, diary = Service("Family"), VirtualObject("Diary")


def asks(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@family.handler()
async def child(ctx: Context, names: list[str]) -> list[str]:
    """Asks about each, until the budget it is called under is used up."""
    said = []
    try:
        for name in names:
            said.append((await completion(ctx, MODEL, asks(name), max_tokens=4)).text)
    except BudgetExceeded as exceeded:
        said.append(f"no more {exceeded.facts['unit']}")
    return said


@family.handler()
async def grandparent(ctx: Context, names: list[str]) -> list[str]:
    """Within a smaller budget of its own, below the one it is called under."""
    async with budget(ctx, Budget(calls=2, shared=True, name="small")):
        return list(await ctx.service_call(child, names))


@family.handler()
async def parent(ctx: Context, limit: dict[str, Any]) -> dict[str, Any]:
    """A call of its own, two children at once, and a grandchild."""
    async with budget(ctx, Budget(**limit, shared=True, name="family")) as account:
        own = (await completion(ctx, MODEL, asks("own"), max_tokens=4)).text
        children = await asyncio.gather(
            ctx.service_call(child, ["a", "b"]), ctx.service_call(grandparent, ["c", "d", "e"])
        )
        last = await ctx.service_call(child, ["f", "g"])
        assert isinstance(account, SharedAccount)
        total = await account.total(ctx)
    return {
        "own": own, "children": children, "last": last, "calls": total.calls, "account": account.key,
    }  # fmt: skip


@family.handler()
async def spoiled(ctx: Context, names: list[str]) -> dict[str, Any]:
    """One call, and a child that needs more than there is."""
    async with budget(ctx, Budget(calls=2, shared=True, name="purse", on_limit="approve")) as account:
        own = (await completion(ctx, MODEL, asks("own"), max_tokens=4)).text
        said = await ctx.service_call(child, names)
        assert isinstance(account, SharedAccount)
    return {"own": own, "child": said, "account": account.key}


@diary.handler()
async def say(ctx: ObjectContext, text: str) -> str:
    """Every session has an account of its own, over all that is said in it."""
    async with budget(ctx, Budget(calls=3, name="diary"), key=f"diary-{ctx.key()}"):
        return (await completion(ctx, MODEL, asks(text))).text


app = App([family, diary])
