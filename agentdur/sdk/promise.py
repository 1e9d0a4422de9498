"""Durable promises, as a workflow's handlers see them."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from typing import Any, Generic, TypeVar

from agentdur.core import journal as j
from agentdur.sdk.attempt import Attempt
from agentdur.sdk.future import DurableFuture
from agentdur.sdk.serde import Serde

T = TypeVar("T")


class DurablePromise(Generic[T]):
    """Completed once by any handler of the workflow key; awaiting it waits for that."""

    __slots__ = ("_attempt", "_name", "_serde")

    def __init__(self, attempt: Attempt, name: str, serde: Serde[Any]) -> None:
        self._attempt, self._name, self._serde = attempt, name, serde

    def value(self) -> DurableFuture[T]:
        """The value, when it is there."""
        attempt = self._attempt
        branch = attempt.here()
        made = j.GetPromise(key=self._name, completion=attempt.next_completion, branch=branch.name)
        return attempt.future(branch, made, self._future(made.completion))

    def peek(self) -> Awaitable[T | None]:
        """The value if it is there, else None."""
        attempt = self._attempt
        branch = attempt.here()
        made = j.PeekPromise(key=self._name, completion=attempt.next_completion, branch=branch.name)
        return attempt.future(branch, made, self._future(made.completion))

    def resolve(self, value: T) -> Awaitable[None]:
        """Complete it; a terminal 409 when it was completed before."""
        return self._complete(j.Success(self._serde.serialize(value)))

    def reject(self, message: str, code: int = 500) -> Awaitable[None]:
        """Fail it; a terminal 409 when it was completed before."""
        return self._complete(j.Failure(code, message))

    def _complete(self, result: j.Result) -> DurableFuture[Any]:
        attempt = self._attempt
        branch = attempt.here()
        made = j.CompletePromise(
            key=self._name, result=result, completion=attempt.next_completion, branch=branch.name
        )
        return attempt.future(branch, made, self._future(made.completion))

    def _future(self, completion: int) -> DurableFuture[Any]:
        return DurableFuture(self._attempt, completion, self._serde.deserialize)

    def __await__(self) -> Generator[Any, Any, T]:
        return self.value().__await__()
