"""One attempt: a handler running against its journal.

Rules of this file:
1. Entries are buffered while the code runs and proposed when it waits; the engine applies them in order.
2. What the code awaits is resolved from the journal first; only then does it wait.
3. An attempt that is closed says nothing any more: its tasks are cancelled, and context operations raise.
4. Cancellation reaches the branches that wait when it is noticed; which ones is journaled, so that a replay
   interrupts the same ones (branch `~cancel`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import AsyncExitStack
from typing import Any, NoReturn, Protocol

from agentdur.core import journal as j
from agentdur.core.errors import JournalMismatch, NestedOperation, NotInHandler
from agentdur.core.ids import InvocationId, random_seed
from agentdur.core.replay import Mismatch, Recorded, check, describe
from agentdur.core.target import Target
from agentdur.sdk.branch import NOT_MADE, ROOT, Branch, current_branch, enter
from agentdur.sdk.cancel import (
    Decision,
    decide_soon,
    next_cancel,
    raise_if_cancelled,
    read_decisions,
)
from agentdur.sdk.checks import check_command
from agentdur.sdk.exceptions import TerminalError, terminal_in
from agentdur.sdk.failure import Failed, failure_for, failure_of
from agentdur.sdk.future import NEVER, DurableFuture, Group, SignalFuture
from agentdur.sdk.handing import input_of, output_of
from agentdur.sdk.resting import current_task, rests
from agentdur.sdk.segment import Segment
from agentdur.sdk.service_handler import Handler, where
from agentdur.sdk.traced import Traced
from agentdur.sdk.turns import Turns
from agentdur.sdk.where import user_line


class AttemptClosed(asyncio.CancelledError):
    """The attempt is over (suspended, stopped, failed); the invocation goes on elsewhere. Do not catch it."""


class Driver(Protocol):
    """What an attempt needs from the engine. All but `durable` are synchronous and act at once."""

    loop: asyncio.AbstractEventLoop

    def propose(self, attempt: Attempt, entries: tuple[j.Proposal, ...], end: bool) -> None:
        """Store entries; completions known at once come through `attempt.deliver` before this returns."""

    def now(self) -> int:
        """ms since the epoch."""

    def buffering(self, attempt: Attempt) -> None:
        """It has something to propose: ask for it (`flush`) before the next commit at the latest."""

    def durable(self, attempt: Attempt) -> Awaitable[None] | None:
        """Until all that was proposed is committed; None when it is."""

    def streaming(self, attempt: Attempt, step: Any) -> Segment | None:
        """Where the chunks of a step that runs go (a RunFuture); None: nobody can read them."""

    def values(self, attempt: Attempt) -> Mapping[str, bytes | None]:
        """The state of the key, kept up to date; None: absent. All of it, unless `partial_state`."""

    def waiting(self, attempt: Attempt) -> None:
        """Nothing runs: every branch waits for the journal."""

    def running(self, attempt: Attempt) -> None:
        """Something arrived."""

    def failed(self, attempt: Attempt, failure: Failed) -> None:
        """The attempt ended with something that is not a terminal outcome."""

    def ended(self, attempt: Attempt) -> None:
        """The handler's task is gone, whatever the reason."""


class Attempt:
    """Owns the handler's task, its branches and the futures they wait for. Lives on one event loop."""

    # What most attempts never change stays on the class: making one is on the path of every invocation.
    abandoned: frozenset[str] = frozenset()
    branches: dict[Branch, asyncio.Task[Any]] = {}  # noqa: RUF012 - empty and replaced before it is filled
    closed = False
    context: Any = None
    """What the handler was given; None when its task is over."""
    decided = 0
    deciding = False
    decisions: tuple[tuple[int, frozenset[str]], ...] = ()
    executing = 0
    failing: Failed | None = None
    entry_size = 0
    """Bytes that a step's result may have."""
    last = 0
    """When it last said or heard something: ms since the epoch, kept by the driver."""
    multi = False
    next_label: str | None = None
    only_results = False
    outlived = False
    partial_state = False
    seed_value: int | None = None
    signals: dict[int | str, list[SignalFuture[Any]]] | None = None
    slot: Any = None  # the driver's own
    step_failures: dict[int, Any] | None = None
    task: asyncio.Task[Any] | None = None
    telling: Callable[[], None] | None = None
    """Hears of it when a step begins to tell a model something; in any thread."""
    traced: Traced | None = None
    turns: Turns | None = None
    waits = 0

    def __init__(
        self, driver: Driver, invocation: InvocationId, number: int, target: Target, recorded: Recorded
    ) -> None:
        self.driver, self.id, self.number, self.target = driver, invocation, number, target
        self.recorded = recorded
        self.loop = driver.loop
        self.buffer: list[j.Proposal] = []
        self.pending: dict[int, DurableFuture[Any] | Decision] = {}
        self.next_completion = recorded.last_completion + 1
        self.cancels = recorded.cancels
        self.known = self.replayed = recorded.length
        self.root = Branch(self, ROOT, None)
        if self.cancels:
            read_decisions(self)

    # -- life

    def begin(self, handler: Handler) -> None:
        """Start the handler. Its task needs no branch from the task factory: it is the root."""
        self.task = asyncio.Task(self._main(handler), loop=self.loop)

    async def _main(self, handler: Handler) -> None:
        enter(self.root)
        try:
            try:
                if self.traced is not None:
                    self.traced.enter()
                result: j.Result
                if handler.context_managers:
                    result = j.Success(await _within(self, handler))
                elif handler.takes_input:
                    value = input_of(self, handler)
                    result = j.Success(output_of(self, handler, await handler.fn(self.context, value)))
                else:
                    result = j.Success(output_of(self, handler, await handler.fn(self.context)))
            except (TerminalError, ExceptionGroup) as error:
                found = terminal_in(error)
                if found is None:
                    raise
                result = failure_of(found)
            if not self.closed:
                self._output(result, handler)
        except AttemptClosed:
            pass
        except asyncio.CancelledError:
            if not self.closed:  # the handler cancelled itself, or a task it awaited was cancelled
                self.fail(Failed(error=j.Failure(500, "the handler's task was cancelled from inside")))
        except Exception as error:
            self.fail(failure_for(error))
        except BaseException as error:
            self.fail(failure_for(error))
            raise
        finally:
            self._end()

    def _output(self, result: j.Result, handler: Handler) -> None:
        if self.failing is not None:
            return  # steps still run; the last one ends the attempt
        recorded = self.root.recorded
        if recorded and isinstance(recorded[-1][1], j.Output):
            recorded.pop()
        else:
            stopped = {branch.name for branch in self.branches}  # still running: the end stops them
            left = self.recorded.leftover(self.abandoned | stopped | NOT_MADE)
            if left is not None:
                mismatch = Mismatch(left[0], describe(left[1]), "nothing more: it returned")
                self.mismatch(mismatch, where(handler.fn))
            self.buffer.append(j.Output(result=result))
        if self.branches:
            self._close_tasks()
        entries, self.buffer = tuple(self.buffer), []
        self.closed = True
        self.driver.propose(self, entries, True)

    def _end(self) -> None:
        if self.failing is not None and not self.closed:
            self.outlived = True  # steps still run in branches; the last one closes the attempt
            return
        if not self.closed:
            self.close()
        self.driver.ended(self)
        self.task = self.root.attempt = self.context = self.signals = None
        self.pending.clear()  # no cycles: an attempt is freed when it is over

    def close(self) -> None:
        """Stop everything. What was not proposed is forgotten; the journal has the rest."""
        self.closed = True
        self.buffer.clear()
        self._close_tasks()
        if self.task is not None and not self.task.done() and self.task is not current_task():
            self.task.cancel()
        if self.outlived:
            self.outlived = False
            self.driver.ended(self)

    def _close_tasks(self) -> None:
        me = current_task()
        for task in self.branches.values():
            if not task.done() and task is not me:
                task.cancel()

    def fail(self, failed: Failed) -> None:
        """End this attempt; steps that run elsewhere in it finish and are journaled first."""
        if self.closed or self.failing is not None:
            return
        self.failing = failed
        if self.executing == 0:
            self._give_up()

    def rejected(self, failed: Failed) -> None:
        """What was proposed is not stored: nothing that comes after it may happen. What steps bring is
        kept."""
        self.buffer.clear()
        if self.failing is None:
            self.failing, self.only_results = failed, True
            self.loop.call_soon(self._give_up_idle)

    def _give_up_idle(self) -> None:
        if self.executing == 0:
            self._give_up()

    def _give_up(self) -> None:
        assert self.failing is not None
        if self.closed:
            return
        self.flush()
        self.driver.failed(self, self.failing)
        self.close()

    def step_left(self) -> None:
        """A step's action is over; the last one ends an attempt that is failing."""
        self.executing -= 1
        if self.failing is not None and self.executing == 0:
            self._give_up()

    # -- branches

    @property
    def seed(self) -> int:
        """The same number on every attempt."""
        if self.seed_value is None:
            self.seed_value = random_seed(self.id)
        return self.seed_value

    def recorded_of(self, name: str) -> list[tuple[int, j.AnyCommand]] | None:
        """The recorded commands of a branch, the next one last."""
        return self.recorded.branches.get(name)

    def adopt(self, child: Branch, task: asyncio.Task[Any]) -> None:
        """A task was made inside the handler."""
        if not self.multi:
            self.multi, self.branches = True, {}
            self.turns = Turns(self.loop, self.replayed) if self.recorded.branches else None
        self.branches[child] = task
        task.add_done_callback(lambda ended: self._orphan(child, ended))

    def _orphan(self, child: Branch, ended: asyncio.Task[Any]) -> None:
        self.branches.pop(child, None)
        if child.recorded and ended.cancelled():
            self.abandoned |= {child.name}  # an earlier attempt came further in it
        self._maybe_waiting()

    def here(self) -> Branch:
        """The branch that runs; refuses steps, foreign tasks and attempts that are over."""
        branch = current_branch()
        if branch is None or branch.attempt is not self:
            raise NotInHandler("this context belongs to another invocation or task")
        if branch.in_step:
            raise NestedOperation("a context operation inside a step")
        if self.closed:
            raise AttemptClosed
        return branch

    def branch_or_step(self) -> Branch:
        """The branch that runs, or whose step runs."""
        branch = current_branch()
        if branch is None or branch.attempt is not self:
            raise NotInHandler("this context belongs to another invocation or task")
        return branch

    # -- commands

    def command(self, branch: Branch, made: j.AnyCommand) -> j.AnyCommand | None:
        """Match with the journal, or propose. The recorded command when there is one, else None."""
        check_command(made, self.entry_size)
        recorded = branch.recorded
        if recorded:
            index, there = recorded[-1]
            try:
                check(index, there, made)
            except Mismatch as mismatch:
                self.mismatch(mismatch)
            recorded.pop()
            return there
        self.add(made)
        return None

    def add(self, entry: j.Proposal) -> None:
        """Propose soon: at the next wait, or before the next commit."""
        if not self.buffer:
            self.driver.buffering(self)
        self.buffer.append(entry)

    def flush(self) -> None:
        """Propose what is buffered."""
        if self.buffer and not self.closed:
            entries, self.buffer = tuple(self.buffer), []
            if self.only_results:
                entries = tuple(entry for entry in entries if isinstance(entry, j.RunResult))
            self.driver.propose(self, entries, False)

    def mismatch(self, mismatch: Mismatch, place: str = "") -> NoReturn:
        """Explain and stop: the code and the journal do not belong together. The attempt is over at once, so
        that no `except Exception` on the way lets the code go on."""
        place = place or user_line()
        error = JournalMismatch(
            f"{mismatch}, at {place}. Entry expected: {mismatch.recorded}; made: {mismatch.made}"
        )
        self.fail(failure_for(error))
        raise error

    def future(self, branch: Branch, made: j.AnyCommand, future: DurableFuture[Any]) -> DurableFuture[Any]:
        """Issue a command with a completion id; answers the future, resolved on replay."""
        there = self.command(branch, made)
        if there is None:
            future.completion = self.next_completion
            self.pending[self.next_completion] = future
            self.next_completion += 1
            return future
        return self.expect(there.completion, future)  # type: ignore[union-attr]  # those that have one

    def expect(self, completion: int, future: DurableFuture[Any]) -> DurableFuture[Any]:
        """A future of a recorded command: resolved when its completion is recorded too."""
        future.completion = completion
        known = self.recorded.completions.get(completion)
        if known is None:
            self.pending[completion] = future
        else:
            future.index, future.outcome = known[0], known[1].outcome
        return future

    def placed(self, entries: tuple[j.Proposal, ...], indices: list[int]) -> None:
        """What was proposed is in the journal at `indices`: results of steps get their place in the order."""
        for entry, index in zip(entries, indices, strict=True):
            if isinstance(entry, j.RunResult):
                future = self.pending.pop(entry.completion, None)
                if future is not None:
                    future.resolve(index, entry.result)
        self.known = max(self.known, indices[-1] + 1)

    # -- what arrives

    def deliver(self, index: int, notification: j.Notification) -> None:
        """The engine stored this at `index`."""
        self.known = index + 1
        if isinstance(notification, j.Completion):
            future = self.pending.pop(notification.id, None)
            if future is not None:
                future.resolve(index, notification.outcome)
            else:  # the replay has not come to its command yet
                self.recorded.store_completion(index, notification)
        elif notification.signal == j.CANCEL_SIGNAL:
            self.cancels = (*self.cancels, index)
            decide_soon(self)
        else:
            queue = self.signals.get(notification.signal) if self.signals else None
            if queue:
                queue.pop(0).resolve(index, notification.outcome)
            else:
                self.recorded.store_signal(index, notification)
        self.driver.running(self)

    def signal_future(self, signal: int | str, future: SignalFuture[Any]) -> None:
        """Take the next stored signal of that name, or wait for it."""
        stored = self.recorded.signals.get(signal)
        if stored:
            index, notification = stored.pop(0)
            future.index, future.outcome = index, notification.outcome
        else:
            if self.signals is None:
                self.signals = {}
            self.signals.setdefault(signal, []).append(future)

    # -- waiting

    def wait(self, thing: DurableFuture[Any] | Group) -> Generator[Any, Any, None]:
        """Wait until `thing` is complete; raises the cancellation when it came first."""
        branch = self.here()
        while True:
            if self.multi:
                yield from self.in_turn(branch, thing.index)
            raise_if_cancelled(self, branch, thing.index)
            if thing.index != NEVER:
                return
            if isinstance(thing, DurableFuture) and thing.outcome is not None:
                self.flush()  # proposed but not stored yet: it gets its index now
                return
            if branch.recorded:
                index, there = branch.recorded[-1]
                made = (
                    "an await that nothing recorded completes (a timeout of asyncio is not journaled: "
                    "race by ctx.select with ctx.sleep)"
                )
                self.mismatch(Mismatch(index, describe(there), made))
            yield from self.park(branch, thing)

    def in_turn(self, branch: Branch, index: int) -> Generator[Any, Any, None]:
        """On replay: let those go on first that went on before entry `index`, or a cancel, was stored."""
        at = min(index, next_cancel(self, branch)) if self.cancels else index
        if branch.passed < at < NEVER and self.turns is not None and self.turns.before(at):
            branch.passed = at
            yield from self.turns.take(at)

    def park(self, branch: Branch, thing: DurableFuture[Any] | Group) -> Generator[Any, Any, None]:
        """Wait until something changes: `thing` is complete, or a cancel was decided."""
        waiter = self.loop.create_future()
        for future in [thing] if isinstance(thing, DurableFuture) else thing.futures:
            if future.index == NEVER:  # also one whose result is known, but has no place in the journal yet
                future.waiters = [*(future.waiters or ()), waiter]
        branch.waiting = (waiter, thing)
        self.waits += 1
        try:
            self.flush()
            if not waiter.done():
                if self.decided < len(self.cancels):
                    decide_soon(self)
                self._maybe_waiting()
                yield from waiter
        finally:
            branch.waiting = None
            self.waits -= 1
        if self.closed:
            raise AttemptClosed

    def _maybe_waiting(self) -> None:
        if self.executing == 0 and self.waits and not self.closed:
            self.driver.waiting(self)

    def idle(self) -> bool:
        """True when some branch waits for the journal, and every other one waits too: for the journal, or for
        other branches."""
        if self.executing or self.closed or self.buffer or self.decided < len(self.cancels):
            return False
        if not self.branches:
            return self.root.waiting is not None and not self.root.waiting[0].done()
        fellows = set(self.branches.values())
        waits = 0
        for branch in (self.root, *self.branches):
            if branch.waiting is not None:
                if branch.waiting[0].done():
                    return False
                waits += 1
                continue
            task = self.branches.get(branch, self.task)
            if task is None or not rests(task, fellows):
                return False
        return waits > 0

    def awaiting(self) -> j.Awaiting:
        """What would wake this attempt up: anything any branch waits for, or a cancel."""
        nested = tuple(b.waiting[1].leaf() for b in (self.root, *self.branches) if b.waiting is not None)
        return j.Awaiting(signals=(j.CANCEL_SIGNAL,), nested=nested)

    # -- cancellation

    def cancel_other(self, invocation: InvocationId) -> None:
        """Ask another invocation to cancel."""
        made = j.SendSignal(
            target=invocation, signal=j.CANCEL_SIGNAL, outcome=j.VOID, branch=self.here().name
        )
        self.command(self.here(), made)


async def _within(attempt: Attempt, handler: Handler) -> bytes:
    """With the service's context managers around the attempt."""
    async with AsyncExitStack() as stack:
        for manager in handler.context_managers:
            await stack.enter_async_context(manager())
        arguments = (input_of(attempt, handler),) if handler.takes_input else ()
        return output_of(attempt, handler, await handler.fn(attempt.context, *arguments))
