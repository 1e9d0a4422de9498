"""The trace of an attempt: made current in its task, and named in its log lines."""

from __future__ import annotations

from collections.abc import Callable


class Traced:
    """`traceparent`: the invocation's; empty where another server makes the spans. `enter` is called in the
    handler's task before it begins."""

    __slots__ = ("enter", "traceparent")

    def __init__(self, traceparent: str, enter: Callable[[], None]) -> None:
        self.traceparent, self.enter = traceparent, enter
