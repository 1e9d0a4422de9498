"""A small world of aggregates: effects are routed as the engine does it, and every rule is watched.

Rules of this file:
1. Messages are said one after the other; what they send is said before anything else, in order.
2. `say` watches what a single transition may do, `check` what must hold between two messages from outside.
"""

from collections import Counter, deque

from agentdur.core import commands as c
from agentdur.core import effects as e
from agentdur.core import journal as j
from agentdur.core.awaiting import resolved
from agentdur.core.errors import CallerError
from agentdur.core.ids import InvocationId
from agentdur.core.machine import apply, apply_object, apply_promise
from agentdur.core.state import Invocation, ObjectState, PromiseState, Status, Waiter
from agentdur.core.target import HandlerKind, ObjectAddress, PromiseAddress
from tests.core.builders import CATALOG, T0, inv_id

HOLDING = (Status.INVOKED, Status.SUSPENDED, Status.PAUSED)


class World:
    """Everything there is, and what has been said to whom."""

    def __init__(self) -> None:
        self.now = T0
        self.invocations: dict[InvocationId, Invocation] = {}
        self.journals: dict[InvocationId, list[j.Entry]] = {}
        self.objects: dict[ObjectAddress, ObjectState] = {}
        self.lines: dict[ObjectAddress, list[int]] = {}
        self.promises: dict[PromiseAddress, PromiseState] = {}
        self.timers: set[tuple[InvocationId, int, int]] = set()
        self.retries: dict[InvocationId, c.RetryDue] = {}
        self.asked: dict[tuple[InvocationId, int], PromiseAddress] = {}
        self.owed: Counter[tuple[InvocationId, int]] = Counter()
        self.answered: Counter[tuple[InvocationId, int]] = Counter()
        self.accepted: Counter[InvocationId] = Counter()
        self.finished: Counter[InvocationId] = Counter()
        self.started: dict[InvocationId, int] = {}
        self.queue: deque[c.Message] = deque()
        self.fresh_id = 1_000

    # -- messages

    def tell(self, message: c.Message) -> bool:
        """Say it and all that follows; False when it was refused and nothing changed."""
        self.now += 1
        before = dict(self.invocations)
        self.queue.append(message)
        try:
            while self.queue:
                self.say(self.queue.popleft())
        except CallerError:
            assert self.invocations == before
            assert not self.queue
            return False
        self.check()
        return True

    def say(self, message: c.Message) -> None:
        """One transition."""
        if isinstance(message, c.ToObject):
            held = self.objects.get(message.object)
            key = apply_object(held, message)
            self.watch_line(message, held, key.effects)
            put(self.objects, message.object, key.state)
            self.perform(key.effects)
        elif isinstance(message, c.ToPromise):
            open_or_not = self.promises.get(message.promise)
            promise = apply_promise(open_or_not, message)
            if open_or_not is not None and open_or_not.result is not None:
                assert promise.state is open_or_not, "a promise is completed once"
            if isinstance(message, c.ReadPromise) and message.wait:
                self.asked[(message.invocation, message.completion)] = message.promise
            self.promises[message.promise] = promise.state
            self.perform(promise.effects)
        else:
            self.say_invocation(message)

    def say_invocation(self, message: c.ToInvocation) -> None:
        before = self.invocations.get(message.id)
        if isinstance(message, c.Kill) and before is not None:
            message = c.Kill(message.id, self.children(message.id))
        if isinstance(message, c.Submit) and before is None:
            self.accepted[message.id] += 1
        if isinstance(message, c.Notify):
            self.answered[(message.id, message.completion)] += 1
        transition = apply(before, message, self.now, CATALOG)
        after = transition.state
        if before is not None and before.head.status is Status.COMPLETED:
            assert after is before or isinstance(message, c.Purge)
        attempt = getattr(message, "attempt", None)
        if before is not None and attempt not in (None, before.head.attempt):
            assert after is before and not transition.effects, "only the last attempt is heard"
        if before is not None and isinstance(message, c.RetryDue) and before.head.retry_at is None:
            assert after is before, "only a back-off ends by a retry"
        if after is not None and before is not None:
            assert after.spec is before.spec
            assert after.head.attempt >= before.head.attempt
            assert after.length >= before.length
        put(self.invocations, message.id, after)
        self.perform(transition.effects)

    def children(self, invocation: InvocationId) -> tuple[InvocationId, ...]:
        """All it called or sent to."""
        return tuple(
            entry.outcome.invocation_id
            for entry in self.journals[invocation]
            if isinstance(entry, j.Completion) and isinstance(entry.outcome, j.CalleeId)
        )

    def fresh(self) -> InvocationId:
        """An id that was never used."""
        self.fresh_id += 1
        return inv_id(self.fresh_id)

    # -- effects

    def perform(self, effects: tuple[e.Effect, ...]) -> None:
        """Do what a transition asks for."""
        for effect in effects:
            match effect:
                case e.Append(id=inv, index=index, entry=entry):
                    journal = self.journals.setdefault(inv, [])
                    assert index == len(journal), "journal indices are dense"
                    journal.append(entry)
                    if isinstance(entry, j.Call):
                        self.owed[(inv, entry.completion)] += 1
                case e.Send(message=message):
                    self.queue.append(message)
                case e.SetTimer(id=inv, at=at, completion=completion):
                    self.timers.add((inv, at, completion))
                case e.ClearTimer(id=inv, at=at, completion=completion):
                    self.timers.remove((inv, at, completion))
                case e.Start(id=inv, attempt=attempt):
                    assert attempt > self.started.get(inv, 0), "an attempt starts once"
                    self.started[inv] = attempt
                case e.ArmRetry(id=inv, attempt=attempt):
                    self.retries[inv] = c.RetryDue(inv, attempt)
                case e.Find(id=inv, target=j.InvocationRef(invocation_id=found), completion=cid, wait=wait):
                    self.owed[(inv, cid)] += 1
                    self.queue.append(c.Attach(found, Waiter(inv, cid, "Attach"), wait))
                case e.ReadState(id=inv, completion=completion):
                    self.queue.append(c.Notify(inv, completion, j.VOID, "GetState"))
                case e.Finished(id=inv):
                    self.finished[inv] += 1
                case e.DropJournal(id=inv):
                    self.journals[inv] = []
                    if inv not in self.invocations:
                        self.started.pop(inv, None)
                case e.DropPromises(object=key):
                    for address in [a for a in self.promises if (a.service, a.key) == key[:2]]:
                        del self.promises[address]
                        self.asked = {who: what for who, what in self.asked.items() if what != address}
                case e.Refuse(id=inv, attempt=attempt):
                    assert self.invocations[inv].head.attempt == attempt
                case _:
                    pass

    def watch_line(
        self, message: c.ToObject, held: ObjectState | None, effects: tuple[e.Effect, ...]
    ) -> None:
        """Who comes goes to the end; who is granted came from the front."""
        line = self.lines.setdefault(message.object, [])
        leaves = isinstance(message, c.Release) and held is not None and held.locked_by == message.id
        for effect in effects:
            if isinstance(effect, e.Enqueue):
                assert not line or effect.place.position > line[-1]
                line.append(effect.place.position)
            elif isinstance(effect, e.ReplaceState):
                assert leaves or held is None, "no edit under a running handler"
            elif isinstance(effect, e.Dequeue):
                assert not leaves or line[0] == effect.position, "first in, first out"
                line.remove(effect.position)

    # -- what always holds

    def check(self) -> None:
        """Between two messages from outside."""
        for inv in self.invocations.values():
            self.check_status(inv)
            if inv.journal_kept:
                assert inv.length == len(self.journals[inv.id])
                if inv.head.status is not Status.COMPLETED:
                    check_folded(inv, self.journals[inv.id])
        for key in {*self.objects, *self.lines}:
            self.check_key(key)
        for question, address in self.asked.items():
            completed = self.promises[address].result is not None
            assert self.answered[question] == completed, "a promise answers all who asked"
        assert all(count <= 1 for count in self.answered.values()), "one answer to each question"
        for invocation, lives in self.accepted.items():
            assert self.finished[invocation] == lives - self.alive(invocation), "each life ends once"

    def alive(self, invocation: InvocationId) -> bool:
        """It has not ended yet."""
        inv = self.invocations.get(invocation)
        return inv is not None and inv.head.status is not Status.COMPLETED

    def check_status(self, inv: Invocation) -> None:
        head = inv.head
        assert (head.status is Status.COMPLETED) == (head.result is not None)
        assert (head.status is Status.SUSPENDED) == (head.awaiting is not None)
        if head.status is Status.SUSPENDED and head.awaiting is not None:
            assert not resolved(inv, head.awaiting, head.seen), "nobody sleeps over what it waits for"
        if head.status is Status.SCHEDULED:
            assert (inv.id, inv.spec.execute_at, 0) in self.timers
        if head.retry_at is not None:
            assert head.status is Status.INVOKED
            assert self.retries[inv.id].attempt == head.attempt
        elif head.status is Status.INVOKED:
            assert self.started[inv.id] == head.attempt

    def check_key(self, key: ObjectAddress) -> None:
        mine = [
            inv
            for inv in self.invocations.values()
            if inv.spec.target.handler_kind is HandlerKind.EXCLUSIVE and inv.spec.target.object == key
        ]
        holders = [inv.id for inv in mine if inv.head.status in HOLDING]
        waiting = {inv.id for inv in mine if inv.head.status is Status.INBOXED}
        state = self.objects.get(key, ObjectState())
        assert holders == ([] if state.locked_by is None else [state.locked_by])
        in_line = [place.item for place in state.inbox if isinstance(place.item, str)]
        assert sorted(in_line) == sorted(waiting), "nothing is lost from an inbox"
        assert [place.position for place in state.inbox] == self.lines.get(key, [])
        assert key not in self.objects or state.locked_by is not None or len(state.inbox)


def put(where: dict, name, value) -> None:
    """Keep it, or forget it when it is None."""
    if value is None:
        where.pop(name, None)
    else:
        where[name] = value


def check_folded(inv: Invocation, entries: list[j.Entry]) -> None:
    """The aggregate knows exactly what its journal says."""
    opened = done = failed = 0
    signals: dict[int | str, int] = {}
    rejected: dict[int | str, int] = {}
    output = None
    for index, entry in enumerate(entries):
        failure = isinstance(getattr(entry, "outcome", None), j.Failure)
        if isinstance(entry, j.Completion):
            assert not done >> entry.id & 1, "a completion id is completed once"
            done |= 1 << entry.id
            failed |= failure << entry.id
        elif isinstance(entry, j.Signal):
            (rejected if failure else signals)[entry.signal] = index
        else:
            output = entry.result if isinstance(entry, j.Output) else output
            for name in ("completion", "id_completion"):
                opened |= 1 << getattr(entry, name) if hasattr(entry, name) else 0
    assert (inv.open, inv.done, inv.failed) == (opened & ~done, done, failed)
    assert (dict(inv.signals), dict(inv.rejected), inv.output) == (signals, rejected, output)
