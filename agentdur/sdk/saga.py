"""Sagas: what was done is undone, in reverse, when the whole cannot succeed (semantics §13)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any

from agentdur.sdk.exceptions import terminal_in


class Saga:
    """Collects compensations; on a TerminalError (a cancellation too) it runs them as steps, last one first.

    Transient errors do not trigger them: the invocation is retried and goes on. After a crash while
    compensating, the compensations that are left are run, since each is a journaled step.
    """

    __slots__ = ("_context", "_undo")

    def __init__(self, context: Any) -> None:
        self._context = context
        self._undo: list[tuple[str, Callable[[], Any]]] = []

    def add(self, name: str, action: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Undo by the step `name`: `action(*args, **kwargs)`. Register it before the step it undoes: a step
        may have taken effect even when its result was lost."""
        self._undo.append((name, partial(action, *args, **kwargs)))

    async def compensate(self) -> None:
        """Run what was collected, in reverse; each once."""
        while self._undo:
            name, action = self._undo.pop()
            await self._context.run(name, action)

    async def __aenter__(self) -> Saga:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if terminal_in(error) is not None:
            await self.compensate()
