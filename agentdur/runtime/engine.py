"""The engine's middle: says messages to aggregates and does what follows.

Rules of this file:
1. A message is applied to its aggregate in memory; what it causes elsewhere is applied in the same commit.
2. Attempts in this process run ahead of the commit; what leaves the process waits for it (`Writer.after`).
3. When a commit fails, memory is forgotten and read again from the store.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from agentdur.core import commands as c
from agentdur.core import effects as e
from agentdur.core import journal as j
from agentdur.core.catalog import Catalog
from agentdur.core.effects import Effect
from agentdur.core.errors import CallerError, NotRunning, StoreError, StoreFailed
from agentdur.core.ids import InvocationId
from agentdur.core.machine import apply, apply_object, apply_promise
from agentdur.core.ports import Answer, Store, Timer, Writes
from agentdur.core.state import Invocation, ObjectState, PromiseState, Waiter
from agentdur.core.target import ObjectAddress, PromiseAddress
from agentdur.runtime.attempts import Failures
from agentdur.runtime.messages import Messages
from agentdur.runtime.names import Names
from agentdur.runtime.observed import Observed
from agentdur.runtime.slots import Slot, Slots
from agentdur.runtime.streams import Hub
from agentdur.runtime.timers import Timers
from agentdur.runtime.told import attempt_failed, store_failed, store_is_back
from agentdur.runtime.world import World
from agentdur.runtime.writer import Committer, Writer

_OBJECT = (c.Acquire, c.Release, c.EditState)
_PROMISE = (c.ReadPromise, c.SettlePromise)
_STOPPED = "the engine stopped; the invocation goes on when it starts"
REVIVE_SECONDS_MIN = 0.1
REVIVE_SECONDS_MAX = 10.0


class Driver(Protocol):
    """Runs attempts."""

    def start(self, slot: Slot, attempt: int) -> None:
        """Begin an attempt, now or when there is room."""

    def refuse(self, slot: Slot, error: j.Failure) -> None:
        """A proposed command broke a rule: fail the attempt."""

    def forget(self) -> None:
        """Close all attempts without a word: memory is gone."""


class Machine:
    """Aggregates, writer and timers of one owner, on one event loop."""

    def __init__(
        self, store: Store, committer: Callable[[], Committer], world: World, catalog: Catalog
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.store, self.world, self.catalog = store, world, catalog
        self._committer = committer
        self.names = Names(world)
        self.driver: Driver
        self.slots = Slots(store)
        self.messages = Messages()
        self.writer = Writer(store, committer(), self._collect, self._failed)
        self.timers = Timers(self)
        self.streams = Hub(self)
        self.queue: deque[c.Message] = deque()
        self.dispatching = False
        self.touched: list[Slot] = []
        self.buffered: list[Any] = []
        self.touched_keys: set[ObjectAddress] = set()
        self.waiting: dict[InvocationId, list[asyncio.Future[Answer]]] = {}
        self.failures = Failures(store)
        self.watches: dict[InvocationId, list[asyncio.Event]] = {}
        """Set when something of that invocation is committed, or nothing will be any more."""
        self.now = world.now()
        self.stamp = 0
        """When the commit that is being collected began: the time of its entries, ms since the epoch."""
        self.error: StoreError | None = None
        self.stopping = False
        self.revive_seconds = REVIVE_SECONDS_MIN
        self.reviver: asyncio.TimerHandle | None = None
        self.observed: Observed | None = None
        self._say: dict[type, Callable[[Any], None]] = dict.fromkeys(_OBJECT, self._say_object)
        self._say |= dict.fromkeys(_PROMISE, self._say_promise)
        self._performers: dict[type, Callable[[Any, Any], None]] = {
            e.Append: self._append, e.Send: self._send, e.Deliver: self._deliver, e.Start: self._start,
            e.Stop: self._stop, e.Finished: self._finished, e.SetTimer: self._set_timer,
            e.ClearTimer: self._clear_timer, e.ArmRetry: self._arm_retry, e.ReadState: self._read_state,
            e.Find: self._find, e.Refuse: self._refuse, e.PutState: self._put_state,
            e.DropState: self._drop_state, e.ReplaceState: self._replace_state,
            e.DropPromises: self._drop_promises, e.Enqueue: self._enqueue, e.Dequeue: self._dequeue,
            e.DropJournal: self._drop_journal, e.KeepMessages: self._keep_messages,
            e.NoteFailure: self._note_failure,
        }  # fmt: skip

    # -- messages

    def check_alive(self) -> None:
        """Raise when nothing can be accepted: the store failed, or the engine stops."""
        if self.error is not None:
            raise self.error.with_traceback(None)  # it is raised to many
        if self.stopping:
            raise NotRunning("the engine is stopping")

    def dispatch(self, message: c.Message) -> None:
        """Say a message, and everything that follows from it in this process."""
        queue = self.queue
        if self.dispatching:
            queue.append(message)
            return
        self.dispatching = True
        now = self.now = self.world.now()
        if not self.stamp:
            self.stamp = now
        try:
            self._say.get(type(message), self._say_invocation)(message)
            while queue:
                message = queue.popleft()
                self._say.get(type(message), self._say_invocation)(message)
        except CallerError:  # the first message was refused, and nothing has changed
            raise
        except BaseException as error:  # half of what belongs together was said: memory is worth nothing
            queue.clear()
            unread = (
                error if isinstance(error, StoreError) else StoreFailed(f"{type(error).__name__}: {error}")
            )
            self.writer.die(unread)
            raise
        finally:
            self.dispatching = False

    def _say_invocation(self, message: c.ToInvocation) -> None:
        slot = self.slots.invocations.get(message.id)
        if slot is None:
            slot = self._found(message)
        before = slot.state
        if before is None and slot.touched and type(message) is c.Submit:
            # It was there, and comes back before its end is committed.
            slot = self.slots.fresh(message.id)
        if type(message) is c.Kill and before is not None:
            message = c.Kill(message.id, self.callees(slot))
        try:
            transition = apply(before, message, self.now, self.catalog)
        except CallerError:
            self.release(slot)
            raise
        after = transition.state
        if after is before and not transition.effects:
            self.release(slot)
            return
        if self.observed is not None:
            self.observed.say(slot, before, after, transition.effects, self.stamp)
        slot.state = after
        if after is not None and before is None:
            slot.target = after.spec.target
        number = self.writer.touch()
        if slot.touched != number:
            slot.touched = number
            self.touched.append(slot)
        if (
            after is None
            or before is None
            or after.head is not before.head
            or after.journal_kept != before.journal_kept
        ):
            self.slots.dirty.add(slot)
        performers = self._performers
        for effect in transition.effects:
            if type(effect) is e.Append:
                self._append(slot, effect)
            else:
                performers[type(effect)](slot, effect)

    def buffering(self, attempt: Any) -> None:
        """An attempt has something to propose: it is asked for it before the next commit, at the latest."""
        self.buffered.append(attempt)
        self.writer.touch()

    def _found(self, message: c.ToInvocation) -> Slot:
        if type(message) is c.Submit and self.names.is_fresh(message):
            return self.slots.fresh(message.id)
        return self.slots.find(message.id) or self.slots.fresh(message.id)

    def _say_object(self, message: c.ToObject) -> None:
        key = self.slots.key(message.object)
        transition = apply_object(key.state or ObjectState(next_position=key.next_position), message)
        key.state = transition.state
        if key.state is not None:
            key.next_position = key.state.next_position
        key.touched = self.writer.touch()
        self.touched_keys.add(message.object)
        self.slots.dirty_keys.add(message.object)
        self._perform_all(transition.effects)

    def _say_promise(self, message: c.ToPromise) -> None:
        address = message.promise
        before = self.slots.promise(address)
        transition = apply_promise(before, message)
        number = self.writer.touch()
        self.slots.promises[address] = (transition.state, number)
        if transition.state != before:
            self.writer.writes.promises[address] = transition.state
        self._perform_all(transition.effects)

    def _perform_all(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            self._performers[type(effect)](None, effect)

    # -- effects

    def _append(self, slot: Slot, effect: e.Append) -> None:
        entry = effect.entry
        self.writer.writes.journal.append((slot.seq, effect.index, entry, self.stamp))
        if slot.entries is not None:
            slot.entries.append((effect.index, entry))
        if self.streams.channels and slot.id in self.streams.channels:
            self.streams.appended(slot.id, slot.seq, effect.index, entry)
        if type(entry) is j.Completion:
            if type(entry.outcome) is j.CalleeId:
                if slot.callees is None:
                    slot.callees = []
                slot.callees.append(entry.outcome.invocation_id)
            elif slot.sleeps is not None and entry.of == "Sleep":
                slot.sleeps.pop(entry.id, None)

    def _send(self, _: Slot, effect: e.Send) -> None:
        self.queue.append(effect.message)

    def _deliver(self, slot: Slot, effect: e.Deliver) -> None:
        attempt = slot.attempt
        if attempt is not None and not attempt.closed:
            attempt.deliver(effect.index, effect.notification)

    def _start(self, slot: Slot, effect: e.Start) -> None:
        if slot.entries is not None:
            self.driver.start(slot, effect.attempt)
        else:  # its journal has to be read, and that must hold all of it
            self.writer.after(lambda: self._read_and_start(slot, effect.attempt))

    def _read_and_start(self, slot: Slot, attempt: int) -> None:
        """What was said to it since is in the next commit only; from now on `_append` keeps the list."""
        if slot.entries is None:
            slot.entries = self.store.journal(slot.seq)
            newer = self.writer.writes.journal
            slot.entries += [(index, entry) for seq, index, entry, _ in newer if seq == slot.seq]
        self.driver.start(slot, attempt)

    def _stop(self, slot: Slot, effect: e.Stop) -> None:
        if slot.attempt is not None:
            slot.attempt.close()

    def _refuse(self, slot: Slot, effect: e.Refuse) -> None:
        self.driver.refuse(slot, effect.error)

    def _finished(self, slot: Slot, effect: e.Finished) -> None:
        if slot.sleeps:  # timeouts that were not needed
            for completion, at in slot.sleeps.items():
                timer = Timer(at, slot.seq, completion, effect.id)
                self.timers.drop(timer)
                self.drop_timer(timer)
            slot.sleeps = None
        waiting = self.waiting.pop(effect.id, None)
        if waiting is not None:
            answer = Answer(effect.id, effect.result, None, slot.target)
            for future in waiting:
                self.writer.answer(future, answer)
        if self.streams.channels and slot.id in self.streams.channels:
            self.streams.finished(slot.id, slot.seq, effect.result)

    def _set_timer(self, slot: Slot, effect: e.SetTimer) -> None:
        timer = Timer(effect.at, slot.seq, effect.completion, effect.id)
        self.writer.writes.timers.add(timer)
        self.timers.add(timer)
        if effect.completion:
            if slot.sleeps is None:
                slot.sleeps = {}
            slot.sleeps[effect.completion] = effect.at

    def _clear_timer(self, slot: Slot, effect: e.ClearTimer) -> None:
        timer = Timer(effect.at, slot.seq, effect.completion, effect.id)
        self.timers.drop(timer)
        self.drop_timer(timer)

    def unstored_timers(self) -> Iterable[Timer]:
        """Those that are only in the commit that is being collected."""
        return tuple(self.writer.writes.timers)

    def after_commit(self, action: Callable[[], None]) -> None:
        """Call this when what is collected now is durable."""
        self.writer.after(action)

    def drop_timer(self, timer: Timer) -> None:
        """Remove it from the store in the commit that is being collected."""
        self.writer.touch()
        writes = self.writer.writes
        if timer in writes.timers:
            writes.timers.discard(timer)
        else:
            writes.timer_drops.add(timer)

    def _arm_retry(self, slot: Slot, effect: e.ArmRetry) -> None:
        delay = max(0, effect.at - self.now) / 1000
        self.loop.call_later(delay, self._retry, c.RetryDue(effect.id, effect.attempt))

    def _retry(self, message: c.RetryDue) -> None:
        if self.error is None and not self.stopping and message.id in self.slots.invocations:
            self.dispatch(message)

    def _read_state(self, _: Slot, effect: e.ReadState) -> None:
        values = self.slots.state(effect.object).map
        if effect.name is None:
            names = j.Keys(tuple(sorted(values)))
            self.queue.append(c.Notify(effect.id, effect.completion, names, "GetStateKeys"))
            return
        value = values.get(effect.name)
        outcome = j.VOID if value is None else j.Success(value)
        self.queue.append(c.Notify(effect.id, effect.completion, outcome, "GetState"))

    def _find(self, _: Slot, effect: e.Find) -> None:
        found = self.names.referred(effect.target)
        waiter = Waiter(effect.id, effect.completion, "Attach")
        self.queue.append(c.Attach(found, waiter, effect.wait))

    def _put_state(self, _: Slot, effect: e.PutState) -> None:
        values = self.slots.state(effect.object)
        values.touched = self.writer.number
        self.writer.writes.values[(effect.object, effect.name)] = effect.value
        if effect.value is None:
            values.map.pop(effect.name, None)
        else:
            values.map[effect.name] = effect.value

    def _drop_state(self, _: Slot, effect: e.DropState) -> None:
        values = self.slots.state(effect.object)
        values.touched = self.writer.touch()
        writes = self.writer.writes
        for name in values.map:
            writes.values.pop((effect.object, name), None)
        writes.values_dropped.add(effect.object)
        values.map.clear()

    def _replace_state(self, _: Slot, effect: e.ReplaceState) -> None:
        current = self.slots.state(effect.object).map
        if effect.edit.version is not None and effect.edit.version != self.names.version_of(current):
            return  # semantics §8: a mismatch is ignored silently
        self._drop_state(_, e.DropState(effect.object))
        for name, value in effect.edit.values:
            self._put_state(_, e.PutState(effect.object, name, value))

    def _drop_promises(self, _: Slot, effect: e.DropPromises) -> None:
        number = self.writer.touch()
        writes = self.writer.writes
        for address in [
            a for a in self.slots.promises if a[:2] == effect.object[:2] and a[3] == effect.object[2]
        ]:
            self.slots.promises[address] = (None, number)
            writes.promises.pop(address, None)
        writes.promise_drops.add(effect.object)
        self.slots.purged[effect.object] = number

    def _enqueue(self, _: Slot, effect: e.Enqueue) -> None:
        self.writer.writes.inbox[(effect.object, effect.place.position)] = effect.place.item

    def _dequeue(self, _: Slot, effect: e.Dequeue) -> None:
        self.writer.writes.inbox_drops.append((effect.object, effect.position))

    def _drop_journal(self, slot: Slot, effect: e.DropJournal) -> None:
        self.writer.writes.journal_drops.add(slot.seq)

    def _keep_messages(self, _: Slot, effect: e.KeepMessages) -> None:
        self.messages.keep(effect.messages, self.writer.writes, self.stamp)

    def _note_failure(self, slot: Slot, effect: e.NoteFailure) -> None:
        self.failures.note(slot, effect, self.now, self.writer.writes)

    def attempt_failed(self, before: Invocation, after: Invocation | None, error: j.Failure) -> None:
        """Tell the log."""
        attempt_failed(before, after, error, self.now)

    def release(self, slot: Slot) -> None:
        """Nobody works with it any more: leave it to the store, unless it runs or is not committed yet."""
        self.slots.release(slot, self.writer.committed)

    # -- reading memory and store together

    def callees(self, slot: Slot) -> tuple[InvocationId, ...]:
        """Everything this invocation called or sent to."""
        stored = [] if slot.new else self.store.callees(slot.seq)
        return tuple(dict.fromkeys([*stored, *(slot.callees or ())]))

    def promise_state(self, address: PromiseAddress) -> PromiseState | None:
        """A promise as it is now."""
        return self.slots.promise(address)

    # -- commits

    def _collect(self, writes: Writes) -> None:
        while self.buffered:
            buffered, self.buffered = self.buffered, []
            for attempt in buffered:
                if attempt.buffer:
                    attempt.flush()
        self.stamp = 0
        self.slots.collect(writes)
        slots, self.touched = self.touched, []
        keys, self.touched_keys = self.touched_keys, set()
        number = self.writer.number
        if self.observed is not None:
            self.observed.collect(self.slots, self.writer)
        self.writer.after_this(lambda: self.slots.evict(slots, keys, number))
        if self.watches:
            self.writer.after_this(lambda: self._wake(slot.id for slot in slots))
        if writes and self.revive_seconds != REVIVE_SECONDS_MIN:
            self.writer.after_this(self._stored_again)

    def _wake(self, invocations: Iterable[InvocationId]) -> None:
        """Tell who watches these."""
        for invocation in invocations:
            for event in self.watches.get(invocation, ()):
                event.set()

    def _stored_again(self) -> None:
        self.revive_seconds = REVIVE_SECONDS_MIN
        store_is_back()

    def _failed(self, error: StoreError) -> None:
        self.error = error
        self.queue.clear()
        self.driver.forget()
        self.timers.stop()
        for waiting in self.waiting.values():
            _refuse_all(waiting, error)
        self.waiting.clear()
        self.streams.fail(error)
        self._wake(tuple(self.watches))
        if not self.stopping and self.reviver is None:
            store_failed(error, self.revive_seconds)
            self.reviver = self.loop.call_later(self.revive_seconds, self._revive)
            self.revive_seconds = min(self.revive_seconds * 2, REVIVE_SECONDS_MAX)

    def _revive(self) -> None:
        self.reviver = None
        if self.stopping:
            return
        try:
            self.store.close()
            self.store.open()
            self.slots, self.messages = Slots(self.store), Messages()
            self.touched, self.touched_keys, self.buffered = [], set(), []
            self.writer = Writer(self.store, self._committer(), self._collect, self._failed)
            if self.observed is not None:
                self.observed.forget(self.writer)
            self.error = None
            self.recover()
        except StoreError as error:
            self.writer.die(error)  # if it is the new one
            self._failed(error)

    def recover(self) -> None:
        """Start what was running when the last owner stopped, and the timers."""
        self.timers = Timers(self)
        for row in self.store.running():
            self.dispatch(c.Recover(row.spec.id))
        self.timers.start()

    async def close(self) -> None:
        """Commit what there is; nothing is accepted after this."""
        self.stopping = True
        self.timers.stop()
        await self.writer.close()
        for waiting in self.waiting.values():
            _refuse_all(waiting, NotRunning(_STOPPED))
        self.waiting.clear()
        self.streams.fail(NotRunning(_STOPPED))
        self._wake(tuple(self.watches))


def _refuse_all(waiting: list[asyncio.Future[Answer]], error: Exception) -> None:
    for future in waiting:
        if not future.done():
            future.set_exception(error)
            future.exception()  # not everyone who asked still waits
