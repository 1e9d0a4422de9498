"""A segment: the chunks of one run of one step's action, joined where they belong together.

Rules of this file:
1. Chunks that are equal but for `delta` are one chunk with the deltas in a row, and so are strings in a row:
   what is read live, in whatever portions, and what is journaled come to the same text.
2. A segment is open, then sealed (its step has a result, which will hold it) or void. Only an open one grows.
3. What is over the limit is left out for readers and journal alike, and the last chunk says so.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Protocol, TypeAlias

import msgspec

from agentdur.core.ids import InvocationId

DELTA = "delta"
STREAM = "stream"
"""The name of a handler's chunk in the journal, and the key of a step's chunks in its meta."""
_encode = msgspec.json.Encoder().encode
Cursor: TypeAlias = tuple[int, int]
"""Where a reader is: so many chunks, and so many parts of the one after them."""
START: Cursor = (0, 0)


class State(Enum):
    """What has become of a segment. STORED: its step's result is in the commit that is being collected."""

    OPEN = "open"
    SEALED = "sealed"
    STORED = "stored"
    VOID = "void"


class Joined:
    """Chunks that are one. `frame` None: strings; else what all of them have beside their delta."""

    __slots__ = ("frame", "parts", "rest")

    def __init__(self, frame: dict[str, Any] | None, rest: dict[str, Any] | None, part: str) -> None:
        self.frame, self.rest, self.parts = frame, rest, [part]

    def since(self, part: int) -> Any:
        """One chunk, of the parts from this one on."""
        text = self.parts[part] if part == len(self.parts) - 1 else "".join(self.parts[part:])
        return text if self.frame is None else {**self.frame, DELTA: text}


class Holder(Protocol):
    """Who keeps open segments for those who read them."""

    def grown(self, segment: Segment) -> None:
        """There is more to read."""

    def left(self, segment: Segment) -> None:
        """It is sealed or void."""


class Segment:
    """Grows on the loop of its attempt only."""

    __slots__ = (
        "attempt", "branch", "bytes_max", "completion", "holder", "id", "items", "read", "size", "state",
        "step",
    )  # fmt: skip

    def __init__(
        self, holder: Holder, invocation: InvocationId, attempt: int, completion: int, bytes_max: int
    ) -> None:
        self.holder, self.id, self.attempt, self.completion = holder, invocation, attempt, completion
        self.bytes_max, self.size = bytes_max, 0
        self.step = self.branch = ""
        self.items: list[Any] = []
        self.state = State.OPEN
        self.read = False
        """Somebody reads this invocation now."""

    def add(self, data: Any) -> None:
        """One more chunk. `data` is plain JSON data that nobody changes any more."""
        if self.state is not State.OPEN or self.size > self.bytes_max:
            return
        items = self.items
        last = items[-1] if items else None
        if type(data) is str:
            self.size += _bytes(data)
            if type(last) is Joined and last.frame is None:
                self._join(last, data)
            else:
                self._append(Joined(None, None, data))
        elif type(data) is dict and type(delta := data.get(DELTA)) is str:
            rest = {name: value for name, value in data.items() if name != DELTA}
            if type(last) is Joined and last.rest == rest:
                self.size += _bytes(delta)
                self._join(last, delta)
            else:
                self.size += len(_encode(data))
                self._append(Joined(data, rest, delta))
        else:
            self.size += len(_encode(data))
            self._append(data)
        if self.read:
            self.holder.grown(self)

    def _join(self, last: Joined, part: str) -> None:
        if self.size > self.bytes_max:
            self.items.append(self._cut())
        else:
            last.parts.append(part)

    def _append(self, item: Any) -> None:
        self.items.append(self._cut() if self.size > self.bytes_max else item)

    def _cut(self) -> dict[str, Any]:
        return {"type": "truncated", "limit": self.bytes_max}

    def since(self, cursor: Cursor) -> tuple[list[Any], Cursor]:
        """(chunks that were added behind the cursor, the new cursor)"""
        at, part = cursor
        out: list[Any] = []
        items = self.items
        for number in range(at, len(items)):
            item = items[number]
            if type(item) is not Joined:
                out.append(item)
                at, part = number + 1, 0
                continue
            if part < len(item.parts):
                out.append(item.since(part))
            if number == len(items) - 1:
                return out, (number, len(item.parts))  # it may grow
            at, part = number + 1, 0
        return out, (at, part)

    def seal(self) -> list[Any]:
        """The step has its result: what goes into the journal with it."""
        if self.state is State.OPEN:
            self.state = State.SEALED
            self.holder.left(self)
        return self.since(START)[0]

    def void(self) -> None:
        """It will not be in the journal."""
        if self.state is not State.VOID:
            self.state = State.VOID
            self.holder.left(self)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
