"""Durable futures: what context operations return.

Rules of this file:
1. A future is complete at a journal index. Whoever races futures gets the one with the smallest index: the
   same one on every attempt, because the journal does not change.
2. Awaiting is the only thing that waits; a step's action starts when its future is first awaited or combined.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

from agentdur.core.ids import InvocationId
from agentdur.core.journal import (
    Awaiting,
    CalleeId,
    Combinator,
    Failure,
    Keys,
    Outcome,
    Success,
    Void,
)
from agentdur.sdk.exceptions import TerminalError

T = TypeVar("T")
NEVER = 1 << 62


def terminal(failure: Failure) -> TerminalError:
    """A journaled failure as the error that handlers see."""
    return TerminalError(failure.message, failure.code, dict(failure.metadata) or None)


class DurableFuture(Generic[T]):
    """The outcome of one journaled operation. Await it, any number of times, from any task of the handler."""

    __slots__ = ("_attempt", "_decode", "completion", "index", "outcome", "value", "waiters")

    def __init__(
        self, attempt: Any, completion: int | str, decode: Callable[[bytes], T | None] | None
    ) -> None:
        self._attempt = attempt
        self._decode = decode
        self.completion = completion
        self.index = NEVER
        self.outcome: Outcome | None = None
        self.value: Any = None
        self.waiters: list[Any] | None = None

    def resolve(self, index: int, outcome: Outcome) -> None:
        """The journal holds the outcome at `index`. Only the attempt calls this."""
        self.index, self.outcome = index, outcome
        if self.waiters:
            waiters, self.waiters = self.waiters, None
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    @property
    def done(self) -> bool:
        """True when the outcome is known."""
        return self.outcome is not None

    def is_completed(self) -> bool:
        """True when the outcome is known."""
        return self.outcome is not None

    def start(self) -> None:
        """Begin whatever awaiting would begin; only steps have something to begin."""

    def abandon(self) -> None:
        """It lost a race: stop what it stands for, where that can be stopped."""

    def leaf(self) -> Awaiting:
        """What a suspended attempt waits for, if it waits for this."""
        if isinstance(self.completion, str):
            return Awaiting(signals=(self.completion,))
        return Awaiting(completions=(self.completion,))

    def result(self) -> T:
        """The value, or the failure raised; the outcome must be known."""
        outcome = self.outcome
        if isinstance(outcome, Success):
            if self._decode is None:
                return outcome.value  # type: ignore[return-value]  # no decoder: T is bytes
            return self._decode(outcome.value)  # type: ignore[return-value]  # None is a value of its own
        if isinstance(outcome, Failure):
            raise terminal(outcome)
        if isinstance(outcome, CalleeId):
            return outcome.invocation_id  # type: ignore[return-value]  # T is InvocationId
        if isinstance(outcome, Keys):
            return list(outcome.names)  # type: ignore[return-value]  # T is list[str]
        assert isinstance(outcome, Void)
        return None  # type: ignore[return-value]  # T is None or optional

    def __await__(self) -> Generator[Any, Any, T]:
        attempt = self._attempt
        if self.outcome is None or attempt.cancels or attempt.turns is not None:
            yield from attempt.wait(self)
        return self.result()


class SignalFuture(DurableFuture[T]):
    """An awakeable or a named signal."""

    __slots__ = ()

    def leaf(self) -> Awaiting:
        return Awaiting(signals=(self.completion,))


class CallFuture(DurableFuture[T]):
    """The result of a call to another handler."""

    __slots__ = ("callee",)

    def __init__(
        self,
        attempt: Any,
        completion: int,
        decode: Callable[[bytes], T | None] | None,
        callee: DurableFuture[Any],
    ) -> None:
        super().__init__(attempt, completion, decode)
        self.callee = callee

    async def invocation_id(self) -> InvocationId:
        """The id of the invocation that was called."""
        return InvocationId(await self.callee)

    async def cancel_invocation(self) -> None:
        """Cancel what was called; its TerminalError comes as this call's result."""
        self._attempt.cancel_other(await self.invocation_id())

    def abandon(self) -> None:
        if self.outcome is None and isinstance(self.callee.outcome, CalleeId):
            self._attempt.cancel_other(self.callee.outcome.invocation_id)


class SendHandle:
    """A one-way call."""

    __slots__ = ("_attempt", "callee")

    def __init__(self, attempt: Any, callee: DurableFuture[Any]) -> None:
        self._attempt, self.callee = attempt, callee

    async def invocation_id(self) -> InvocationId:
        """The id of the invocation that was sent to."""
        return InvocationId(await self.callee)

    async def cancel_invocation(self) -> None:
        """Cancel what was sent."""
        self._attempt.cancel_other(await self.invocation_id())


class Group:
    """Several futures awaited together by one task."""

    __slots__ = ("combinator", "futures")

    def __init__(self, futures: list[DurableFuture[Any]], combinator: Combinator) -> None:
        self.futures, self.combinator = futures, combinator

    @property
    def index(self) -> int:
        """The entry at which the group is complete, NEVER while it is not."""
        indices = [f.index if f.outcome is not None else NEVER for f in self.futures]
        return min(indices) if self.combinator is Combinator.FIRST_COMPLETED else max(indices)

    def leaf(self) -> Awaiting:
        """What a suspended attempt waits for, if it waits for this group."""
        return Awaiting(
            nested=tuple(f.leaf() for f in self.futures if f.outcome is None), combinator=self.combinator
        )
