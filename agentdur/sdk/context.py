"""The handler's API: Context and its forms for objects and workflows.

Rules of this file:
1. Names, parameters and meaning are restate-sdk's where it has the thing: a handler moves by its import.
2. Every operation takes its place in the journal when it is called, and waits only when it is awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any, TypeVar
from uuid import UUID

from agentdur.core import journal as j
from agentdur.core.edits import EDITS
from agentdur.core.ids import InvocationId, awakeable_id
from agentdur.core.target import HandlerKind, ServiceKind
from agentdur.core.text import require_text
from agentdur.sdk import combine
from agentdur.sdk.approval import Approval, ask
from agentdur.sdk.attempt import Attempt
from agentdur.sdk.branch import Branch
from agentdur.sdk.calls import Calls, ScopedContext
from agentdur.sdk.checks import check_size
from agentdur.sdk.future import DurableFuture, SignalFuture
from agentdur.sdk.promise import DurablePromise
from agentdur.sdk.saga import Saga
from agentdur.sdk.serde import BytesSerde, JsonSerde, Serde, serde_for
from agentdur.sdk.steps import RunFuture, RunOptions
from agentdur.sdk.stream import stream

T = TypeVar("T")
_JSON: Serde[Any] = JsonSerde()
_RAW: Serde[Any] = BytesSerde()


@dataclass(slots=True, frozen=True)
class Limits:
    """Named limits an attempt keeps. Sizes in bytes."""

    entry_size: int = 32 * 1024 * 1024
    tool_answer: int = 256 * 1024


class AttemptFinishedEvent:
    """Set when the attempt is over, for whatever reason."""

    __slots__ = ("_attempt",)

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    def is_set(self) -> bool:
        """True when the attempt is over."""
        return self._attempt.closed

    async def wait(self) -> None:
        """Until the attempt is over."""
        task = self._attempt.task
        if task is not None:
            await asyncio.wait([task])


@dataclass(slots=True, frozen=True)
class Request:
    """What the handler was called with."""

    id: InvocationId
    headers: dict[str, str]
    attempt_headers: dict[str, str]
    body: bytes
    attempt_finished_event: AttemptFinishedEvent
    scope: str | None = None
    limit_key: str | None = None
    idempotency_key: str | None = None


class Context(Calls):
    """The context of a handler of a plain Service, and what all contexts have."""

    __slots__ = ("_attempt", "idempotency", "limits")

    def __init__(self, attempt: Attempt, limits: Limits, idempotency_key: str | None = None) -> None:
        self._attempt = attempt
        self.limits = limits
        self.idempotency = idempotency_key
        attempt.context, attempt.entry_size = self, limits.entry_size

    # -- about this invocation

    def request(self) -> Request:
        """The invocation's id, headers and body."""
        given = self._attempt.recorded.input
        headers = dict(given.headers)
        headers.pop(EDITS, None)  # who passes headers on passes on none of this run's edits
        return Request(
            id=self._attempt.id, headers=headers, attempt_headers={}, body=given.value,
            attempt_finished_event=AttemptFinishedEvent(self._attempt),
            scope=self._attempt.target.scope or None, idempotency_key=self.idempotency,
        )  # fmt: skip

    @property
    def invocation_id(self) -> InvocationId:
        """The id of this invocation."""
        return self._attempt.id

    @property
    def idempotency_key(self) -> str:
        """A key for the step that is made next in this branch: the same on every attempt, for no other step.
        Inside a step's action: the key of that step."""
        branch = self._attempt.branch_or_step()
        if branch.in_step:  # which may have been made long ago, and in another branch
            step: RunFuture[Any] = branch.acting
            return f"{self._attempt.id}/{step.branch.name}/{step.number}"
        return f"{self._attempt.id}/{branch.name}/{branch.steps + 1}"

    def random(self) -> Random:
        """A generator that gives the same numbers on every attempt."""
        return self._attempt.here().random()

    def uuid(self) -> UUID:
        """A version-4 UUID, the same on every attempt."""
        return UUID(int=self._attempt.here().random().getrandbits(128), version=4)

    def time(self) -> DurableFuture[float]:
        """Seconds since the epoch, read once and journaled."""
        return self.note_value("timestamp", self._attempt.driver.now() / 1000)

    # -- steps

    def run_typed(
        self,
        name: str,
        action: Callable[..., Any],
        options: RunOptions[Any] | None = None,
        /,
        *args: Any,
        **kwargs: Any,
    ) -> RunFuture[Any]:
        """A step: `action(*args, **kwargs)`, run once and journaled. Give RunOptions before the arguments."""
        if options is not None and not isinstance(options, RunOptions):
            args, options = (options, *args), None
        return self._step(name, action, options, args, kwargs)

    def run(self, name: str, action: Callable[..., Any], *args: Any, **kwargs: Any) -> RunFuture[Any]:
        """A step: `action(*args, **kwargs)`. restate-sdk's keywords of `run` (serde, max_attempts,
        max_retry_duration, type_hint, args=(…)) are understood as there."""
        if not kwargs:
            return self._step(name, action, None, args, kwargs)
        options, args, kwargs = _old_style(args, kwargs)
        return self._step(name, action, options, args, kwargs)

    def _step(
        self, name: str, action: Callable[..., Any], options: RunOptions[Any] | None, args: Any, kwargs: Any
    ) -> RunFuture[Any]:
        attempt = self._attempt
        branch = attempt.here()
        branch.steps += 1
        serde = _JSON
        if options is not None:
            serde = serde_for(options.type_hint) if options.type_hint is not None else options.serde
        if args or kwargs:
            action = partial(action, *args, **kwargs)
        future: RunFuture[Any] = RunFuture(branch, name, action, serde)
        future.options = options
        completion = attempt.next_completion
        made = j.Run(completion, name=name, branch=branch.name)
        if branch.recorded:
            attempt.future(branch, made, future)
        else:
            if type(name) is not str or not name.isascii():
                require_text("a step's name", name)
            attempt.next_completion = completion + 1
            future.completion = completion
            attempt.pending[completion] = future
            attempt.add(made)
        return future

    def note_value(self, name: str, value: Any) -> DurableFuture[Any]:
        """Journal a value that is at hand, as a step that needs no wait."""
        attempt = self._attempt
        branch = attempt.here()
        result = j.Success(_JSON.serialize(value))
        check_size(f"the value of '{name}'", result.value, attempt.entry_size)
        future: DurableFuture[Any] = DurableFuture(attempt, 0, _JSON.deserialize)
        made = j.Run(completion=attempt.next_completion, name=name, branch=branch.name)
        attempt.future(branch, made, future)
        if future.outcome is None:
            assert isinstance(future.completion, int)
            attempt.add(j.RunResult(future.completion, result))
            future.outcome = result
        return future

    def recorded_value(self, name: str) -> Any:
        """What `note_value(name, …)` gives here when the journal has it already, else None."""
        branch = self._attempt.here()
        if not branch.recorded:
            return None
        command = branch.recorded[-1][1]
        if not isinstance(command, j.Run) or command.name != name:
            return None
        known = self._attempt.recorded.completions.get(command.completion)
        if known is None or not isinstance(known[1].outcome, j.Success):
            return None
        return _JSON.deserialize(known[1].outcome.value)

    def stream(self, data: Any) -> None:
        """A chunk for those who read this invocation: live from within a step, journaled from the handler."""
        self._attempt.branch_or_step()
        stream(data)

    # -- time, signals, awakeables

    def sleep(self, delta: timedelta, name: str | None = None) -> DurableFuture[None]:
        """Wait; the wake-up time is journaled, so a restart in between does not lengthen it."""
        attempt = self._attempt
        branch = attempt.here()
        wake_at = attempt.driver.now() + max(0, int(delta.total_seconds() * 1000))
        future: DurableFuture[None] = DurableFuture(attempt, attempt.next_completion, None)
        made = j.Sleep(
            wake_at=wake_at, completion=attempt.next_completion, name=name or "", branch=branch.name
        )
        return attempt.future(branch, made, future)

    def awakeable(
        self, serde: Serde[T] | None = None, type_hint: type[T] | None = None
    ) -> tuple[str, SignalFuture[T]]:
        """(id, future): whoever has the id can complete the future, once, by HTTP or from a handler."""
        branch = self._attempt.here()
        index = branch.next_signal()
        return awakeable_id(self._attempt.id, index), self._signal(index, serde, type_hint)

    def signal(
        self, name: str, serde: Serde[T] | None = None, type_hint: type[T] | None = None
    ) -> SignalFuture[T]:
        """The next value sent to this invocation under that name; values go to those who ask in the order in
        which they ask. Tasks may ask in another order on replay: let one of them ask for a name, or use
        awakeables."""
        return self._signal(name, serde, type_hint)

    def _signal(self, signal: int | str, serde: Serde[T] | None, hint: type[T] | None) -> SignalFuture[T]:
        decode = pick(serde, hint).deserialize
        future: SignalFuture[T] = SignalFuture(self._attempt, signal, decode)
        self._attempt.signal_future(signal, future)
        return future

    def resolve_signal(
        self, invocation_id: str, name: str, value: Any, serde: Serde[Any] | None = None
    ) -> None:
        """Send a value to another invocation."""
        self._send_signal(invocation_id, name, j.Success((serde or _JSON).serialize(value)))

    def reject_signal(
        self, invocation_id: str, name: str, failure_message: str, failure_code: int = 500
    ) -> None:
        """Send a failure to another invocation."""
        self._send_signal(invocation_id, name, j.Failure(failure_code, failure_message))

    def _send_signal(self, invocation_id: str, signal: int | str, outcome: j.Void | j.Result) -> None:
        branch = self._attempt.here()
        made = j.SendSignal(
            target=InvocationId(invocation_id), signal=signal, outcome=outcome, branch=branch.name
        )
        self._attempt.command(branch, made)

    def resolve_awakeable(self, name: str, value: Any, serde: Serde[Any] | None = None) -> None:
        """Complete an awakeable by its id."""
        self._complete_awakeable(name, j.Success((serde or _JSON).serialize(value)))

    def reject_awakeable(self, name: str, failure_message: str, failure_code: int = 500) -> None:
        """Fail an awakeable by its id."""
        self._complete_awakeable(name, j.Failure(failure_code, failure_message))

    def _complete_awakeable(self, name: str, result: j.Result) -> None:
        branch = self._attempt.here()
        self._attempt.command(branch, j.CompleteAwakeable(awakeable=name, result=result, branch=branch.name))

    def cancel_invocation(self, invocation_id: str) -> None:
        """Ask another invocation to cancel."""
        self._attempt.cancel_other(InvocationId(invocation_id))

    def attach_invocation(
        self, invocation_id: str, serde: Serde[T] | None = None, type_hint: type[T] | None = None
    ) -> DurableFuture[T]:
        """The result of another invocation; a terminal 404 when it is unknown."""
        attempt = self._attempt
        branch = attempt.here()
        require_text("an invocation's id", invocation_id)
        made = j.AttachInvocation(
            target=j.InvocationRef(InvocationId(invocation_id)), completion=attempt.next_completion,
            branch=branch.name,
        )  # fmt: skip
        decode = pick(serde, type_hint).deserialize
        return attempt.future(branch, made, DurableFuture(attempt, made.completion, decode))

    async def approval(
        self,
        question: str,
        payload: Any = None,
        timeout: timedelta | None = None,
        *,
        default: bool = False,
        notify: str | Sequence[str] | None = None,
    ) -> Approval:
        """Ask a person, who sees the question and the payload and may decide until `timeout` is over; then
        `default` is taken. `notify`: the webhooks that are told, instead of the setting's. Waiting costs
        nothing; a cancelled handler withdraws its question."""
        return await ask(self, question, payload, timeout=timeout, default=default, notify=notify)

    # -- combinators and sagas

    async def all(self, *awaitables: Awaitable[Any]) -> list[Any]:
        """The values of all, in this order; they run at the same time. The first failure is raised."""
        return list(await asyncio.gather(*awaitables))

    async def select(self, **futures: DurableFuture[Any]) -> list[Any]:
        """[name, value] of the first."""
        return await combine.select(**futures)

    async def race(self, *entrants: Awaitable[Any]) -> Any:
        """The value of the first; the others are cancelled."""
        return await combine.race(*entrants)

    def saga(self) -> Saga:
        """`async with ctx.saga() as saga:` collects compensations; they run if the block fails for good."""
        return Saga(self)

    def scope(self, scope: str) -> ScopedContext:
        """Calls and sends within a scope of their own."""
        return ScopedContext(self, scope)


class _Keyed(Context):
    __slots__ = ()

    def key(self) -> str:
        """The key of this object or workflow."""
        return self._attempt.target.key or ""

    def get(
        self,
        name: str,
        serde: Serde[T] | None = None,
        type_hint: type[T] | None = None,
        entry_name: str | None = None,
    ) -> DurableFuture[T | None]:
        """A state value, None when it is absent."""
        attempt = self._attempt
        branch = attempt.here()
        future: DurableFuture[T | None] = DurableFuture(attempt, 0, pick(serde, type_hint).deserialize)
        recorded = branch.recorded
        if recorded and isinstance(recorded[-1][1], j.GetLazyState):
            made = j.GetLazyState(key=name, completion=0, name=entry_name or "", branch=branch.name)
            return attempt.future(branch, made, future)
        value = None
        if not recorded:
            values = _values(attempt)
            value = values.get(name)
            if value is None and attempt.partial_state and name not in values:
                made = j.GetLazyState(
                    key=name, completion=attempt.next_completion, name=entry_name or "", branch=branch.name
                )
                return attempt.future(branch, made, future)
        eager = j.GetEagerState(key=name, value=value, name=entry_name or "", branch=branch.name)
        there = attempt.command(branch, eager)
        if isinstance(there, j.GetEagerState):
            value = there.value
        future.outcome = j.VOID if value is None else j.Success(value)
        future.index = 0
        return future

    def state_keys(self, entry_name: str | None = None) -> DurableFuture[list[str]]:
        """The names of all state values."""
        attempt = self._attempt
        branch = attempt.here()
        recorded = branch.recorded
        lazily = isinstance(recorded[-1][1], j.GetLazyStateKeys) if recorded else attempt.partial_state
        if lazily:
            lazy = j.GetLazyStateKeys(
                completion=attempt.next_completion, name=entry_name or "", branch=branch.name
            )
            return attempt.future(branch, lazy, DurableFuture(attempt, 0, None))
        names: tuple[str, ...] = ()
        if not recorded:
            names = tuple(sorted(name for name, value in _values(attempt).items() if value is not None))
        made = j.GetEagerStateKeys(keys=names, name=entry_name or "", branch=branch.name)
        if branch.recorded and isinstance(branch.recorded[-1][1], j.GetEagerStateKeys):
            made = branch.recorded[-1][1]
        attempt.command(branch, made)
        future: DurableFuture[list[str]] = DurableFuture(attempt, 0, None)
        future.outcome, future.index = j.Keys(made.keys), 0
        return future


class _Writable(_Keyed):
    __slots__ = ()

    def set(
        self, name: str, value: Any, serde: Serde[Any] | None = None, entry_name: str | None = None
    ) -> None:
        """Write a state value; others see it as soon as it is stored."""
        data = (serde or _JSON).serialize(value)
        branch = self._attempt.here()
        made = j.SetState(key=name, value=data, name=entry_name or "", branch=branch.name)
        self._attempt.command(branch, made)

    def clear(self, name: str, entry_name: str | None = None) -> None:
        """Remove a state value."""
        branch = self._attempt.here()
        self._attempt.command(branch, j.ClearState(key=name, name=entry_name or "", branch=branch.name))

    def clear_all(self, entry_name: str | None = None) -> None:
        """Remove all state values of this key."""
        branch = self._attempt.here()
        self._attempt.command(branch, j.ClearAllState(name=entry_name or "", branch=branch.name))


class ObjectContext(_Writable):
    """The context of an exclusive handler of a VirtualObject."""

    __slots__ = ()


class ObjectSharedContext(_Keyed):
    """The context of a shared handler of a VirtualObject: it reads state."""

    __slots__ = ()


class _Promises(_Keyed):
    __slots__ = ()

    def promise(
        self, name: str, serde: Serde[T] | None = None, type_hint: type[T] | None = None
    ) -> DurablePromise[T]:
        """A durable promise of this workflow key."""
        return DurablePromise(self._attempt, name, pick(serde, type_hint))


class WorkflowContext(_Promises, _Writable):
    """The context of a workflow's run."""

    __slots__ = ()


class WorkflowSharedContext(_Promises):
    """The context of a workflow's shared handlers."""

    __slots__ = ()


CONTEXTS: dict[tuple[ServiceKind, HandlerKind], type[Context]] = {
    (ServiceKind.SERVICE, HandlerKind.PLAIN): Context,
    (ServiceKind.VIRTUAL_OBJECT, HandlerKind.EXCLUSIVE): ObjectContext,
    (ServiceKind.VIRTUAL_OBJECT, HandlerKind.SHARED): ObjectSharedContext,
    (ServiceKind.WORKFLOW, HandlerKind.WORKFLOW): WorkflowContext,
    (ServiceKind.WORKFLOW, HandlerKind.SHARED): WorkflowSharedContext,
}
"""What a handler is handed, by the kinds of its service and of itself."""


def _values(attempt: Attempt) -> Mapping[str, bytes | None]:
    """The state of the key, with what the handler has just written. None: known to be absent."""
    attempt.flush()
    return attempt.driver.values(attempt)


def pick(serde: Serde[Any] | None, hint: Any) -> Serde[Any]:
    """The serde that was given, or the one for a type, or JSON."""
    if serde is not None:
        return serde
    return _JSON if hint is None else serde_for(hint)


_OLD_RUN = ("serde", "max_attempts", "max_retry_duration", "type_hint", "args")


def _old_style(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[RunOptions[Any] | None, Any, Any]:
    """Split restate-sdk's keywords of `run` from those of the action."""
    given = {name: kwargs.pop(name) for name in _OLD_RUN if name in kwargs}
    args = (*args, *(given.pop("args", None) or ()))
    given = {name: value for name, value in given.items() if value is not None}
    return (RunOptions(**given) if given else None), args, kwargs


def branch_of(context: Context) -> Branch:
    """The branch that runs under this context."""
    return context._attempt.here()
