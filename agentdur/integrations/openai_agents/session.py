"""Sessions of the SDK in the state of a virtual object: items are appended, one value each.

Rules of this file:
1. An item is written once, under a number that is never used again: N turns write O(N) bytes.
2. What is read is not journaled item by item: the journal keeps which numbers the conversation consists of,
   and what is under a number does not change. (Where the state is not at hand, on a server of another make
   that sends it value by value, each item read is an entry.)
3. Items that were taken back or cleared leave the state with the next invocation that uses the session: until
   then a replay of this one may read them.
"""

from __future__ import annotations

from typing import Any

from agents.items import TResponseInputItem
from agents.memory import SessionSettings

from agentdur.integrations.openai_agents.errors import NoSessionState
from agentdur.sdk.context import Context, ObjectContext, WorkflowContext
from agentdur.sdk.once import once_written
from agentdur.sdk.step import current_context


class ObjectSession:
    """`Runner.run(agent, input, session=ObjectSession())` in an exclusive handler of a virtual object (or
    the run of a workflow): the conversation of this key. `name` tells several conversations of one key
    apart."""

    def __init__(self, name: str = "main", *, ctx: Context | None = None) -> None:
        context = ctx if ctx is not None else current_context()
        if not isinstance(context, ObjectContext | WorkflowContext):
            raise NoSessionState(f"this handler has a {type(context).__name__}")
        self._ctx, self._name = context, name
        self.session_id = f"{context._attempt.target.service}/{context.key()}/{name}"
        self.session_settings: SessionSettings | None = None
        self._index: dict[str, Any] | None = None

    def _key(self, part: str | int) -> str:
        return f"openai:{self._name}:{part:010}" if isinstance(part, int) else f"openai:{self._name}:{part}"

    async def _known(self) -> dict[str, Any]:
        """Which items there are; the first to ask in an invocation also sweeps out what others left."""
        if self._index is None:
            found = await self._ctx.get(self._key("index"), type_hint=dict)
            index: dict[str, Any] = found or {"next": 0, "ranges": [], "gone": [], "by": ""}
            me = str(self._ctx.invocation_id)
            if index["gone"] and index["by"] != me:
                for number in _numbers(index["gone"]):
                    self._ctx.clear(self._key(number))
                index["gone"] = []
            index["by"] = me
            self._index = index
        return self._index

    def _write(self, index: dict[str, Any]) -> None:
        self._ctx.set(self._key("index"), index)

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """The conversation, or its last `limit` items."""
        numbers = _numbers((await self._known())["ranges"])
        if limit is None and self.session_settings is not None:
            limit = self.session_settings.limit
        if limit is not None:
            numbers = numbers[max(0, len(numbers) - limit) :] if limit > 0 else []
        return [await once_written(self._ctx, self._key(number)) for number in numbers]

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Append."""
        if not items:
            return
        index = await self._known()
        start = index["next"]
        for number, item in enumerate(items, start):
            self._ctx.set(self._key(number), item)
        index["next"] = end = start + len(items)
        if index["ranges"] and index["ranges"][-1][1] == start:
            index["ranges"][-1][1] = end
        else:
            index["ranges"].append([start, end])
        self._write(index)

    async def pop_item(self) -> TResponseInputItem | None:
        """Take the last item back."""
        index = await self._known()
        if not index["ranges"]:
            return None
        last = index["ranges"][-1]
        last[1] -= 1
        number: int = last[1]
        if last[0] == last[1]:
            index["ranges"].pop()
        index["gone"].append([number, number + 1])
        item: TResponseInputItem = await once_written(self._ctx, self._key(number))
        self._write(index)
        return item

    async def clear_session(self) -> None:
        """Forget the conversation."""
        index = await self._known()
        index["gone"] += index["ranges"]
        index["ranges"] = []
        self._write(index)


def _numbers(ranges: list[list[int]]) -> list[int]:
    return [number for start, end in ranges for number in range(start, end)]
