"""A streamed run that may be interrupted and go on: one result for all its parts.

Rules of this file:
1. The events of the parts come one after another; between them people are asked, as in a plain run.
2. Whatever else is asked of the result is answered by the part that runs, or ran last.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from agents.result import RunResultStreaming
from agents.run_state import RunState
from agents.stream_events import StreamEvent

from agentdur.integrations.openai_agents.approvals import decide
from agentdur.integrations.openai_agents.scope import Scope


class DurableStream:
    """Stands for a RunResultStreaming, and passes for one."""

    def __init__(
        self,
        scope: Scope,
        first: RunResultStreaming,
        resume: Callable[[RunState[Any]], RunResultStreaming],
        outward: Callable[[Scope, BaseException], BaseException],
    ) -> None:
        self._scope, self._part, self._resume, self._outward = scope, first, resume, outward

    @property  # type: ignore[misc]  # for isinstance
    def __class__(self) -> type:
        return RunResultStreaming

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_part"], name)

    async def stream_events(self) -> AsyncIterator[StreamEvent]:
        """The events of the run, to its very end."""
        try:
            async for event in self._part.stream_events():
                yield event
            while self._part.interruptions and self._scope.how.approvals == "park":
                state = self._part.to_state()
                await decide(self._scope, state, self._part.interruptions)
                self._part = self._resume(state)
                async for event in self._part.stream_events():
                    yield event
        except GeneratorExit:
            raise
        except BaseException as error:
            raise self._outward(self._scope, error) from error.__cause__
