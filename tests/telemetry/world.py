"""A shop whose orders call, send, wait and charge; and telemetry that stays in the test's own process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from agentdur import Context, Service, TerminalError
from agentdur.core.ports import Filter
from agentdur.telemetry.options import Options
from agentdur.telemetry.pipeline import Telemetry
from agentdur.telemetry.span import Span
from tests.support.stage import Stage

Shape = Any
"""(name, shapes below it), or a name."""


def shop() -> Service:
    """Callees have idempotency keys, so that their ids are the same in every run."""
    made = Service("Shop")

    @made.handler()
    async def price(ctx: Context, article: str) -> int:
        return await ctx.run_typed("look up", lambda: len(article))

    @made.handler()
    async def order(ctx: Context, article: str) -> str:
        cost = await ctx.service_call(price, article, idempotency_key=f"price of {article}")
        ctx.service_send(thank, article, idempotency_key=f"thanks for {article}")
        await ctx.sleep(timedelta(milliseconds=1))
        return await ctx.run_typed("charge", lambda: f"{article}: {cost}")

    @made.handler()
    async def thank(ctx: Context, article: str) -> None:
        await ctx.run_typed("mail", lambda: None)

    @made.handler()
    async def refuse(ctx: Context, article: str) -> None:
        raise TerminalError(f"no {article}", 422)

    return made


ORDER: Shape = (
    "Shop/order",
    [
        ("call Shop/price", [("Shop/price", ["look up"])]),
        "charge",
        ("send Shop/thank", [("Shop/thank", ["mail"])]),
        "sleep",
    ],
)


class Kept:
    """A sink that keeps spans."""

    write = None

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def give(self, span: Span) -> None:
        self.spans.append(span)

    def pass_on(self) -> None:
        """They stay."""


def keeping(**more: Any) -> tuple[Telemetry, Kept]:
    kept = Kept()
    return Telemetry(Options(**more), "test", sink=kept), kept


def by_id(spans: Iterable[Span]) -> dict[str, Span]:
    """Re-sent ones once; all of them must say the same each time."""
    known: dict[str, Span] = {}
    for span in spans:
        before = known.setdefault(span.span_id, span)
        assert before == span, "two spans have the same id"
    return known


def shapes(spans: Iterable[Span]) -> list[Shape]:
    """The trees; siblings by name."""
    known = by_id(spans)

    def below(parent: str) -> list[Shape]:
        return [shape(one) for one in sorted(known.values(), key=lambda s: s.name) if one.parent_id == parent]

    def shape(span: Span) -> Shape:
        children = below(span.span_id)
        return (span.name, children) if children else span.name

    roots = {span.parent_id for span in known.values() if span.parent_id not in known}
    return [shape for root in sorted(roots) for shape in below(root)]


def told_of(span: Span) -> str:
    return str(dict(span.attributes)["agentdur.invocation.id"])


async def all_ended(stage: Stage) -> None:
    """Wait until nothing is under way."""
    async with asyncio.timeout(10):
        while any(row["status"] != "completed" for row in await stage.engine.list(Filter())):
            await asyncio.sleep(0.002)
