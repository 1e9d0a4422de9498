"""Steps: actions outside of the journal whose result is in it (semantics §7).

Rules of this file:
1. The Run command is durable before the action starts; the result is proposed before the code sees it.
2. A TerminalError is the step's result. Any other exception fails the attempt, and the action runs again; the
   policy of the step, when it has one, says how often and when.
3. An async action runs in the handler's task, a plain function in a thread: it may block.
"""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Callable, Generator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Generic, NoReturn, TypeVar

import msgspec

from agentdur.core import journal as j
from agentdur.core.errors import EntryTooLarge, NotSerializable
from agentdur.sdk.attempt import Attempt, AttemptClosed
from agentdur.sdk.branch import Branch, current_branch, enter
from agentdur.sdk.cancel import cancel_point, interrupted, raise_if_cancelled, recorded_cancel
from agentdur.sdk.checks import check_size
from agentdur.sdk.exceptions import RetryableError, TerminalError
from agentdur.sdk.failure import Failed, failure_of
from agentdur.sdk.future import NEVER, DurableFuture
from agentdur.sdk.segment import STREAM
from agentdur.sdk.serde import DefaultSerde, Serde

T = TypeVar("T")

SYNC_STEPS_MAX = 64
"""Plain functions that run at once, in threads."""
_THREADS: Executor = ThreadPoolExecutor(SYNC_STEPS_MAX, "agentdur-step")
_RETRY_FIRST = timedelta(milliseconds=50)
_RETRY_MAX = timedelta(seconds=10)
_RETRY_FACTOR = 2.0
_ASYNC = inspect.CO_COROUTINE


@dataclass(slots=True)
class RunOptions(Generic[T]):
    """How a step's result is stored and how its failures are retried. Without any retry field the policy of
    the invocation applies; with one, the others default to 50 ms, factor 2, at most 10 s, without end."""

    serde: Serde[Any] = field(default_factory=DefaultSerde)
    type_hint: type[T] | None = None
    max_attempts: int | None = None
    max_duration: timedelta | None = None
    initial_retry_interval: timedelta | None = None
    max_retry_interval: timedelta | None = None
    retry_interval_factor: float | None = None
    max_retry_duration: timedelta | None = None

    @property
    def retries(self) -> bool:
        """True when the step has a policy of its own."""
        fields = (
            self.max_attempts, self.max_duration, self.initial_retry_interval, self.max_retry_interval,
            self.retry_interval_factor, self.max_retry_duration,
        )  # fmt: skip
        return any(value is not None for value in fields)

    def delay(self, failures: int) -> timedelta:
        """The wait after the `failures`-th failure."""
        first = _RETRY_FIRST if self.initial_retry_interval is None else self.initial_retry_interval
        most = _RETRY_MAX if self.max_retry_interval is None else self.max_retry_interval
        factor = _RETRY_FACTOR if self.retry_interval_factor is None else self.retry_interval_factor
        try:
            return min(most, first * factor ** (failures - 1))
        except OverflowError:  # larger than any time, so larger than the limit
            return most

    def exhausted(self, failures: int, seconds: float) -> bool:
        """True when the action may not run again; `seconds` since its first failure began."""
        if self.max_attempts is not None and failures >= max(1, self.max_attempts):
            return True
        limit = self.max_retry_duration if self.max_duration is None else self.max_duration
        return limit is not None and seconds >= limit.total_seconds()


class RunFuture(DurableFuture[T]):
    """A step. Awaiting it runs the action, unless the journal has the result."""

    __slots__ = ("action", "branch", "name", "number", "options", "running", "serde", "task")

    def __init__(self, branch: Branch, name: str, action: Callable[[], Any], serde: Serde[Any]) -> None:
        self._attempt, self._decode = branch.attempt, serde.deserialize
        self.completion: int | str = 0
        self.index = NEVER
        self.outcome = self.waiters = None
        self.branch, self.name, self.action, self.serde = branch, name, action, serde
        self.number = branch.steps
        self.options: RunOptions[Any] | None = None
        self.task: asyncio.Task[None] | None = None
        self.running = False

    def __await__(self) -> Generator[Any, Any, T]:
        attempt: Attempt = self._attempt
        if self.outcome is None and self.task is None and not self.running:
            self.running = True
            try:
                yield from execute(attempt, attempt.here(), self).__await__()
            finally:
                self.running = False
                if self.waiters and not attempt.closed:
                    attempt.loop.call_soon(self._go_on)  # those who wait may be being cancelled as well
        elif self.outcome is None or attempt.cancels or attempt.turns is not None:
            yield from attempt.wait(self)
        return self.result()

    def _go_on(self) -> None:
        """The task that ran the action was cancelled while others wait for the result: it starts again."""
        if not self._attempt.closed and any(not waiter.done() for waiter in self.waiters or ()):
            self.start()

    def start(self) -> None:
        """Run the action in a task of its own, because several futures are awaited together."""
        if self.outcome is None and self.task is None and not self.running:
            attempt: Attempt = self._attempt
            attempt.next_label = f"run:{self.name}"
            self.task = attempt.loop.create_task(self._alone())

    async def _alone(self) -> None:
        try:
            await execute(self._attempt, self._attempt.here(), self)
        except TerminalError:
            return  # the invocation was cancelled: who waits for this step is told as well

    def abandon(self) -> None:
        if self.task is not None and not self.task.done():
            self.task.cancel()


async def execute(attempt: Attempt, branch: Branch, future: RunFuture[Any]) -> None:
    """Run the action once the journal is safe, and propose its result."""
    attempt.executing += 1
    left = False
    try:
        if attempt.turns is not None:
            await recorded_cancel(attempt, branch)
            await attempt.turns.end()
        attempt.flush()
        durable = attempt.driver.durable(attempt)
        if durable is not None:
            await durable
        if attempt.closed or attempt.failing is not None:
            left = True
            attempt.step_left()  # it has not begun: nobody needs to wait for it
            await over(attempt)
        if attempt.cancels:
            await cancel_point(attempt, branch, future)
        result = await outcome_of(attempt, branch, future)
        assert isinstance(future.completion, int)
        attempt.add(j.RunResult(future.completion, result, meta_of(branch), messages_of(branch)))
        future.outcome = result
    except _StepFailed as failed:
        left = True
        attempt.fail(failed.failed)
        attempt.step_left()
        await over(attempt)
    finally:
        _unsaid(branch, None)  # there is no result that would hold it
        if not left:
            attempt.step_left()


async def over(attempt: Attempt) -> NoReturn:
    """The attempt ends: the code that called does not go on, it is cancelled here."""
    if not attempt.closed:
        await attempt.loop.create_future()  # never set: closing the attempt cancels this task
    raise AttemptClosed


def _unsaid(branch: Branch, result: T) -> T:
    """What the action streamed is void: it broke off, and whoever tries otherwise says it anew."""
    if branch.segment is not None:
        branch.segment.void()
        branch.dropped, branch.segment = branch.segment, None
    return result


class _StepFailed(BaseException):
    """Carries a failed attempt out of the action's frame; never seen by users."""

    def __init__(self, failed: Failed) -> None:
        self.failed = failed


async def outcome_of(attempt: Attempt, branch: Branch, future: RunFuture[Any]) -> j.Result:
    """The action's value or terminal failure, as bytes."""
    began = attempt.loop.time()
    branch.in_step = branch.stop_step = True
    branch.acting = future
    try:
        action = future.action
        function = action.func if type(action) is partial else action
        code = getattr(function, "__code__", None)
        if code is not None and code.co_flags & _ASYNC:
            value = await action()
        else:
            value = await call(action, function)
        if not attempt.cancels or not interrupted(attempt, branch):
            return j.Success(serialized(attempt, future, value))
    except TerminalError as error:
        if not interrupted(attempt, branch):
            return failure_of(error)
    except asyncio.CancelledError as error:
        if not interrupted(attempt, branch):
            task = asyncio.current_task()
            if attempt.closed or task is None or task.cancelling():
                raise
            return _unsaid(branch, failed(attempt, future, error, began))  # it is the action's own
    except Exception as error:
        if not interrupted(attempt, branch):
            return _unsaid(branch, failed(attempt, future, error, began))
    finally:
        branch.in_step = branch.stop_step = False
        branch.acting = None
    # The invocation was cancelled while the action ran. Whatever the action made of that came too late: a
    # replay raises the cancellation here, without running it.
    task = asyncio.current_task()
    assert task is not None
    task.uncancel()
    raise_if_cancelled(attempt, branch, future.index)
    raise AssertionError("an interrupted branch is cancelled")


async def call(action: Callable[[], Any], function: Any) -> Any:
    """Callables whose call is async on the loop, all others in a thread; an awaitable that comes out is
    awaited."""
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
        return await action()
    loop, context, branch = asyncio.get_running_loop(), copy_context(), current_branch()
    if branch is not None and branch.in_step:
        context.run(enter, branch.within())
    value = await loop.run_in_executor(_THREADS, context.run, contained, action)
    return await value if inspect.isawaitable(value) else value


def contained(action: Callable[[], Any]) -> Any:
    """In the thread: a StopIteration cannot be carried over to the loop, who waits would wait for ever."""
    try:
        return action()
    except StopIteration as error:
        raise RuntimeError("the action raised StopIteration") from error


def serialized(attempt: Attempt, future: RunFuture[Any], value: Any) -> bytes:
    """The value as bytes, within the limit of an entry."""
    try:
        data = future.serde.serialize(value)
    except NotSerializable as error:
        raise NotSerializable(f"the result of step '{future.name}': {error.detail}") from error
    if type(data) is not bytes or len(data) > attempt.entry_size:
        check_size(f"the result of step '{future.name}'", data, attempt.entry_size)
    return data


def failed(attempt: Attempt, future: RunFuture[Any], error: BaseException, began: float) -> j.Result:
    """Retry by failing the attempt, or give up: the failure is the step's result."""
    assert isinstance(future.completion, int)
    options = future.options
    if attempt.step_failures is None:
        attempt.step_failures = {}
    failures, first = attempt.step_failures.get(future.completion, (0, began))
    retryable = error if isinstance(error, RetryableError) else None
    failures += retryable is None or retryable.counted
    attempt.step_failures[future.completion] = (failures, first)
    if isinstance(error, NotSerializable | EntryTooLarge):
        return j.Failure(500, str(error), (("agentdur_code", error.code),))
    delay = None if retryable is None else retryable.retry_after
    seconds = attempt.loop.time() - first
    explicit = options is not None and options.retries
    if retryable is not None and not retryable.counted:
        if _out_of_patience(retryable, seconds):
            return given_up(error)
    elif explicit and options is not None and options.exhausted(failures, seconds):
        return given_up(error)
    if delay is None and explicit and options is not None:
        delay = options.delay(max(1, failures))
    delay_ms = None if delay is None else int(delay.total_seconds() * 1000)
    trace = "".join(traceback.format_exception(error))
    code = error.status_code if isinstance(error, RetryableError) else 500
    failure = j.Failure(code, f"step '{future.name}': {error!r}", (), trace)
    raise _StepFailed(Failed(error=failure, delay_ms=delay_ms, step=future.completion))


def given_up(error: BaseException) -> j.Failure:
    """The failure that a step's result is when the action may not run again."""
    if isinstance(error, RetryableError) and error.metadata is not None:
        return j.Failure(error.status_code, error.message, tuple(sorted(error.metadata.items())))
    return j.Failure(500, repr(error))


def _out_of_patience(error: RetryableError, seconds: float) -> bool:
    """True when the wait that is asked for would take the step beyond the patience it has."""
    if error.patience is None:
        return False
    wait = timedelta() if error.retry_after is None else error.retry_after
    return timedelta(seconds=seconds) + wait > error.patience


def meta_of(branch: Branch) -> str:
    """What the action noted about itself (model, tokens, …) and what it streamed, as JSON text."""
    note, branch.note = branch.note, ""
    segment = branch.segment
    if segment is None:
        return note
    branch.segment = None
    facts = msgspec.json.decode(note) if note else {}
    return msgspec.json.encode({**facts, STREAM: segment.seal()}).decode()


def messages_of(branch: Branch) -> tuple[j.ChatMessage, ...]:
    """The conversations that the note refers to."""
    if not branch.messages:
        return ()
    messages, branch.messages = branch.messages, ()
    return messages
