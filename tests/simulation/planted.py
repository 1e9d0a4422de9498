"""Bugs an engine may have, each planted by taking a guard out: the simulation has to find them.

Rules of this file:
1. A bug is a function that patches the engine; its docstring says what goes wrong in the world.
2. A patch replaces as little as it can, so that the engine under test is the real one.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from agentdur.core import commands as c
from agentdur.core.effects import Finished, Send, Transition
from agentdur.core.machine import attempt as attempts
from agentdur.core.machine import finish, notify, propose, submit
from agentdur.core.ports import Answer
from agentdur.core.state import Status
from agentdur.core.target import HandlerKind
from agentdur.runtime import slots
from agentdur.runtime.attempts import Failures
from agentdur.runtime.drivers.inproc import InProcess
from agentdur.runtime.engine import Machine
from agentdur.runtime.slots import Slots
from agentdur.runtime.timers import Timers
from agentdur.runtime.writer import Writer
from agentdur.sdk import attempt as sdk_attempt
from agentdur.sdk import cancel, steps
from agentdur.sdk.context import Context
from agentdur.sdk.exceptions import TerminalError
from agentdur.sdk.turns import Turns

Plant = Callable[[pytest.MonkeyPatch], None]
BUGS: list[Plant] = []


def bug(plant: Plant) -> Plant:
    BUGS.append(plant)
    return plant


@bug
def answers_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    """A client hears a result that a crash takes back."""

    def finished(self: Machine, slot: Any, effect: Any) -> None:
        for future in self.waiting.pop(effect.id, []):
            future.set_result(Answer(effect.id, effect.result))

    patch.setattr(Machine, "_finished", finished)


@bug
def forgets_to_store_the_lock(patch: pytest.MonkeyPatch) -> None:
    """After a restart two handlers of one key run at once."""
    collect = Slots.collect

    def forgetful(self: Slots, writes: Any) -> None:
        self.dirty_keys.clear()
        collect(self, writes)

    patch.setattr(Slots, "collect", forgetful)


@bug
def stores_a_completion_twice(patch: pytest.MonkeyPatch) -> None:
    """A redelivered completion is an entry of its own."""

    def hasty(inv: Any, message: c.Notify, now: int) -> Any:
        if inv.head.status not in notify._BEGUN:
            return Transition(inv)
        entry = notify.Completion(message.completion, message.of, message.outcome)
        return notify.store(inv, entry, 1 << message.completion, now)

    patch.setattr(notify, "notify", hasty)


@bug
def starts_a_step_before_its_command_is_durable(patch: pytest.MonkeyPatch) -> None:
    """A crash leaves an effect outside that the journal knows nothing of."""
    patch.setattr(InProcess, "durable", lambda self, attempt: None)


@bug
def loses_timers_on_restart(patch: pytest.MonkeyPatch) -> None:
    """Who sleeps while the process restarts sleeps for ever."""
    patch.setattr(Timers, "start", Timers._arm)


@bug
def forgets_an_aggregate_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    """What is read again is older than what was said."""

    def early(self: Slots, slot: Any, committed: int) -> None:
        if slot.attempt is None and (slot.state is None or slot.state.head.status is not Status.INVOKED):
            self.invocations.pop(slot.id, None)

    patch.setattr(Slots, "release", early)


@bug
def says_messages_in_the_wrong_order(patch: pytest.MonkeyPatch) -> None:
    """The last thing an invocation sends arrives first."""
    patch.setattr(Machine, "_send", lambda self, _, effect: self.queue.appendleft(effect.message))


@bug
def listens_to_attempts_that_are_over(patch: pytest.MonkeyPatch) -> None:
    """What an old attempt proposes late is stored beside what the new one does."""
    patch.setattr(propose, "current", lambda inv, attempt: inv.head.status is Status.INVOKED)


@bug
def releases_the_lock_of_a_suspended_handler(patch: pytest.MonkeyPatch) -> None:
    """The next handler of the key sees half of what the first one does."""
    suspend = attempts.suspend

    def generous(inv: Any, message: c.Suspend, now: int) -> Any:
        after = suspend(inv, message, now)
        target = inv.spec.target
        if target.handler_kind is not HandlerKind.EXCLUSIVE or after.state is inv:
            return after
        return Transition(after.state, (*after.effects, Send(c.Release(target.object, inv.spec.id))))

    patch.setattr(attempts, "suspend", generous)


@bug
def recovers_all_but_those_that_back_off(patch: pytest.MonkeyPatch) -> None:
    """The retry was armed in the memory of a process that is gone."""
    recover = attempts.recover
    patch.setattr(
        attempts,
        "recover",
        lambda inv, now: Transition(inv) if inv.head.retry_at is not None else recover(inv, now),
    )


@bug
def counts_the_journal_wrong_after_a_restart(patch: pytest.MonkeyPatch) -> None:
    """The next entry leaves a gap."""
    rebuilt = slots.rebuilt

    def longer(row: Any, entries: Any) -> Any:
        found = rebuilt(row, entries)
        return replace(found, length=found.length + 1)

    patch.setattr(slots, "rebuilt", longer)


@bug
def starts_a_commit_while_another_runs(patch: pytest.MonkeyPatch) -> None:
    """Who waits for the second is told when the first is done."""
    start = Writer._start

    def eager(self: Writer) -> None:
        self.busy, self.due = False, True
        start(self)

    patch.setattr(Writer, "_start", eager)


@bug
def gives_a_place_in_the_inbox_twice(patch: pytest.MonkeyPatch) -> None:
    """The removal of the first one removes the second one too: it is never granted after a restart."""
    patch.setattr(slots.KeySlot, "next_position", property(lambda self: 0, lambda self, value: None))


@bug
def commits_half_of_what_belongs_together(patch: pytest.MonkeyPatch) -> None:
    """A read fails between a call's entry and its callee, and the entry is committed."""

    def careless(self: Machine, message: Any) -> None:
        self.queue.append(message)
        if self.dispatching:
            return
        self.dispatching = True
        self.now = self.world.now()
        try:
            while self.queue:
                following = self.queue.popleft()
                self._say.get(type(following), self._say_invocation)(following)
        except BaseException:
            self.queue.clear()
            raise
        finally:
            self.dispatching = False

    patch.setattr(Machine, "dispatch", careless)


@bug
def misses_what_arrives_while_the_journal_is_read(patch: pytest.MonkeyPatch) -> None:
    """A completion in the commit that runs is neither read nor delivered."""
    patch.setattr(Machine, "_read_and_start", lambda self, slot, attempt: self.driver.start(slot, attempt))


@bug
def does_not_tell_the_callers(patch: pytest.MonkeyPatch) -> None:
    """A caller waits for a result that is there."""
    patch.setattr(finish, "answers", lambda inv, result: [Finished(inv.spec.id, result)])


@bug
def suspends_although_it_is_there(patch: pytest.MonkeyPatch) -> None:
    """What arrived while the attempt was leaving wakes nobody."""
    patch.setattr(attempts, "resolved", lambda inv, awaiting, seen: False)
    patch.setattr(notify, "resolved", lambda inv, awaiting, seen: False)


@bug
def reads_rejected_signals_as_resolved(patch: pytest.MonkeyPatch) -> None:
    """Memory and store disagree after a restart."""
    rebuilt = slots.rebuilt

    def mild(row: Any, entries: Any) -> Any:
        found = rebuilt(row, entries)
        return replace(found, signals=(*found.signals, *found.rejected), rejected=())

    patch.setattr(slots, "rebuilt", mild)


@bug
def keeps_fired_timers(patch: pytest.MonkeyPatch) -> None:
    """They are met again at every start."""
    patch.setattr(Machine, "drop_timer", lambda self, timer: None)


@bug
def loses_a_second_caller(patch: pytest.MonkeyPatch) -> None:
    """Who calls an invocation that runs already is never told."""
    patch.setattr(submit, "meet", lambda state, message: Transition(state))


@bug
def forgets_timers_beyond_the_horizon(patch: pytest.MonkeyPatch) -> None:
    """Memory is filled from the store before the store has them."""
    patch.setattr(Machine, "unstored_timers", lambda self: ())
    patch.setattr(Machine, "after_commit", lambda self, action: self.loop.call_later(0.01, action))


@bug
def tells_a_failed_commit_as_done(patch: pytest.MonkeyPatch) -> None:
    """Nothing was written, everybody believes it was."""
    done = Writer._done
    patch.setattr(Writer, "_done", lambda self, error: done(self, None))


@bug
def names_steps_by_the_one_made_last(patch: pytest.MonkeyPatch) -> None:
    """Two steps have one idempotency key: the outside does only one of them."""

    def key(self: Context) -> str:
        branch = self._attempt.branch_or_step()
        return f"{self._attempt.id}/{branch.name}/{branch.steps}"

    patch.setattr(Context, "idempotency_key", property(key))


@bug
def passes_cancels_by_on_replay(patch: pytest.MonkeyPatch) -> None:
    """A task that was cancelled before the crash goes on after it."""

    def careless(attempt: Any, branch: Any, index: int) -> None:
        while branch.cancels_seen < len(attempt.decisions):
            position, names = attempt.decisions[branch.cancels_seen]
            if branch.name in names and index < position:
                return
            branch.cancels_seen += 1
            if branch.name in names:
                raise TerminalError(cancel.CANCELLED, 409)

    for module in (cancel, sdk_attempt, steps):
        patch.setattr(module, "raise_if_cancelled", careless)


@bug
def replays_branches_in_any_order(patch: pytest.MonkeyPatch) -> None:
    """Of two failures another one is heard first after a crash."""
    patch.setattr(Turns, "before", lambda self, index: False)


@bug
def fires_the_latest_timer_only(patch: pytest.MonkeyPatch) -> None:
    """Of two timers that are due at once, one is popped and forgotten."""
    fire = Timers._fire

    def lossy(self: Timers) -> None:
        now = self._owner.world.now()
        if len(self._heap) > 1 and self._heap[0].at <= now and self._heap[1].at <= now:
            heapq.heappop(self._heap)
        fire(self)

    patch.setattr(Timers, "_fire", lossy)


@bug
def counts_failed_attempts_anew_after_a_restart(patch: pytest.MonkeyPatch) -> None:
    """The failures of another process are written over."""
    patch.setattr(Failures, "_count", lambda self, slot, writes: slot.failures or 0)


@bug
def tells_of_a_failed_attempt_a_commit_later(patch: pytest.MonkeyPatch) -> None:
    """A crash between the two leaves a retry that nobody can explain."""
    note = Failures.note

    def late(self: Failures, slot: Any, effect: Any, now: int, writes: Any) -> None:
        asyncio.get_running_loop().call_later(0.01, note, self, slot, effect, now, writes)

    patch.setattr(Failures, "note", late)


@bug
def leaves_the_attempts_of_those_that_are_gone(patch: pytest.MonkeyPatch) -> None:
    """They are found by nobody, and stay for ever."""
    collect = Slots.collect

    def untidy(self: Slots, writes: Any) -> None:
        collect(self, writes)
        writes.attempts_gone.clear()

    patch.setattr(Slots, "collect", untidy)
