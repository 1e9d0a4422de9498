"""The trace of an attempt: made current in its task, and named in its log lines."""

from __future__ import annotations

from collections.abc import Callable

from agentdur.core.trace import span_of, span_of_entry
from agentdur.sdk.branch import Branch


class Traced:
    """`traceparent`: the invocation's; empty where another server makes the spans. `enter` is called in the
    handler's task before it begins."""

    __slots__ = ("enter", "traceparent")

    def __init__(self, traceparent: str, enter: Callable[[], None]) -> None:
        self.traceparent, self.enter = traceparent, enter


def span_at(branch: Branch) -> str:
    """The id of the span of what runs in a branch: of the step whose action runs, else the invocation's."""
    completion = getattr(branch.acting, "completion", 0) if branch.in_step else 0
    invocation = branch.attempt.id
    return span_of_entry(invocation, completion) if completion else span_of(invocation)
