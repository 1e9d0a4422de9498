"""What every side of a benchmark does: payloads and handlers.

Rules of this file:
1. The same code is served by agentdur and by Restate: `services` takes the SDK it is written with. That is
   why contexts have no annotation here.
2. Payloads never change: figures of different days are compared.
"""

from typing import Any

TURNS = 10
"""Of the agent: a turn is one model step and two tool steps."""
CHILDREN = 100
"""Of the fan-out."""
KEYS = 100
"""Of the counters."""

_THOUGHT = (
    "The caller asks for an offer. Before I can make one I want to know who the customer is and what the "
    "warehouse still has, so I will look both up and put the answers together in the next turn. "
)


def small(i: int) -> dict[str, Any]:
    """The result of a small step: about 50 bytes."""
    return {"step": i, "ok": True, "text": "what a small step says"}


def model(turn: int) -> dict[str, Any]:
    """A model's answer that asks for two tools: about 550 bytes."""
    return {
        "role": "assistant", "turn": turn, "text": _THOUGHT, "usage": {"input": 900 + turn, "output": 60},
        "tool_calls": [
            {"id": f"call_{turn}_a", "name": "customer", "args": {"id": "c-1001", "want": ["name", "since"]}},
            {"id": f"call_{turn}_b", "name": "warehouse", "args": {"article": "a-77", "place": "north"}},
        ],
    }  # fmt: skip


def tool(call: dict[str, Any]) -> dict[str, Any]:
    """A tool's answer: about 170 bytes."""
    return {
        "id": call["id"], "name": call["name"], "ok": True,
        "result": {"value": 42, "note": "from a table in memory; no network was used for this answer"},
    }  # fmt: skip


async def do_small(i: int) -> dict:
    """As a step's action."""
    return small(i)


async def do_model(turn: int) -> dict:
    """As a step's action."""
    return model(turn)


async def do_tool(call: dict) -> dict:
    """As a step's action."""
    return tool(call)


def services(sdk: Any) -> list[Any]:
    """The handlers of all workloads, made with `agentdur` or `restate`."""
    bench, counter = sdk.Service("Bench"), sdk.VirtualObject("Counter")

    @bench.handler()
    async def noop(ctx, body: dict) -> dict:
        return body

    @bench.handler()
    async def steps3(ctx, body: dict) -> dict:
        for i in range(3):
            await ctx.run_typed("small", do_small, i=i)
        return {"done": 3}

    @bench.handler()
    async def agent(ctx, body: dict) -> dict:
        used = 0
        for turn in range(TURNS):
            answer = await ctx.run_typed("model", do_model, turn=turn)
            for call in answer["tool_calls"]:
                used += len((await ctx.run_typed("tool", do_tool, call=call))["id"])
        return {"turns": TURNS, "used": used}

    @bench.handler()
    async def child(ctx, i: int) -> dict:
        return {"i": i}

    @bench.handler()
    async def fanout(ctx, body: dict) -> dict:
        calls = [ctx.service_call(child, arg=i) for i in range(CHILDREN)]
        await sdk.gather(*calls)
        return {"sum": sum([(await call)["i"] for call in calls])}

    @bench.handler()
    async def wait(ctx, body: dict) -> str:
        _, decision = ctx.awakeable()
        await decision
        return "woken"

    @counter.handler()
    async def add(ctx, amount: int) -> dict:
        count = (await ctx.get("n", type_hint=int) or 0) + amount
        ctx.set("n", count)
        return {"count": count}

    @counter.handler(kind="shared")
    async def count(ctx) -> dict:
        return {"count": await ctx.get("n", type_hint=int) or 0}

    return [bench, counter]
