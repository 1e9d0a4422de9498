"""Random histories of commits that an engine could have made, over few invocations, keys and names."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from random import Random
from typing import TypeVar

from agentdur.core.ids import InvocationId
from agentdur.core.journal import Awaiting, Entry, Failure, Success
from agentdur.core.ports import Filter, Saved, Store, Timer, Writes
from agentdur.core.state import Accepted, Edit, FailedAttempt, Head, PromiseState, Status, Waiter
from agentdur.core.target import HandlerKind, ObjectAddress, PromiseAddress, ServiceKind, Target
from tests.stores.samples import ENTRIES, REFUSED, T0

T = TypeVar("T")

_ENTRIES = list(ENTRIES.values())
_BYTES = (b"", b"1", b"\x00\xff", b'{"a": "b"}', b"x" * 5000)
_TEXTS = ("", "a", "ann", "ü€", '"\\')


class History:
    """Remembers what was committed as far as a next commit must fit to it."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.live: dict[int, InvocationId] = {}
        self.lengths: dict[int, int] = {}
        self.next = 1
        other = random.choice(("bob", "bob", "bo\0b"))  # with a NUL character commits take another way
        services, keys, scopes = ("Cart", "agentdur.Mail"), ("ann", other), ("", "eu")
        self.keys = [ObjectAddress(*each) for each in product(services, keys, scopes)]
        self.promises = [PromiseAddress(o.service, o.key, name, o.scope) for o in self.keys for name in "pq"]

    def commit(self) -> Writes:
        """The next commit."""
        random, writes = self.random, Writes()
        for _ in range(random.randrange(4)):
            self._accept(writes)
        for seq in self._some(list(self.live)):
            if seq not in writes.invocations:
                writes.invocations[seq] = self._saved(seq, self.live[seq], False)
        for seq in self._some(list(self.lengths), 2):
            self._append(writes, seq)
        for seq in self._some(list(self.live), 1):
            if seq not in writes.invocations:
                self._purge(writes, seq)
            elif random.random() < 0.3:
                writes.journal_drops.add(seq)
                self.lengths.pop(seq, None)
        self._attempts(writes)
        self._keys(writes)
        self._timers(writes)
        self._deployments(writes)
        self._messages(writes)
        return writes

    def _accept(self, writes: Writes) -> None:
        id_ = InvocationId(f"inv_1{self.next:04}")
        seq, self.next = self.next, self.next + 1
        self.live[seq], self.lengths[seq] = id_, 0
        writes.invocations[seq] = self._saved(seq, id_, True)
        self._append(writes, seq)

    def _append(self, writes: Writes, seq: int) -> None:
        for _ in range(self.random.randrange(1, 4)):
            entry: Entry = self.random.choice(_ENTRIES)
            writes.journal.append((seq, self.lengths[seq], entry, T0 + self.random.randrange(3)))
            self.lengths[seq] += 1

    def _purge(self, writes: Writes, seq: int) -> None:
        writes.invocations[seq] = None
        id_ = self.live.pop(seq)
        if self.random.random() < 0.5:  # the same idempotent request comes again in this commit
            again, self.next = self.next, self.next + 1
            self.live[again], self.lengths[again] = id_, 0
            writes.invocations[again] = self._saved(again, id_, True)
        if self.random.random() < 0.8:
            writes.journal_drops.add(seq)
            self.lengths.pop(seq, None)

    def _attempts(self, writes: Writes) -> None:
        random, seqs = self.random, range(1, self.next)
        for seq in self._some(seqs):
            number, either = random.randrange(1, 5), (None, random.randrange(9))
            writes.attempts[(seq, number)] = FailedAttempt(
                number=number, attempt=random.randrange(9), ended_at=T0, code=500,
                message=random.choice(_TEXTS), started_at=random.choice((None, T0)),
                reason=random.choice((None, "AD0031")), entry=random.choice(either),
                length=random.randrange(9), deployment=random.choice((None, "dp_1")),
                node=random.choice(_TEXTS), retry_at=random.choice(either),
            )  # fmt: skip
        writes.attempt_drops = [(seq, random.randrange(1, 5)) for seq in self._some(seqs)]
        writes.attempts_gone = set(self._some(seqs, 1))

    def _keys(self, writes: Writes) -> None:
        random = self.random
        writes.values_dropped = set(self._some(self.keys, 1))
        for key in self._some(self.keys):
            writes.values[(key, random.choice(_TEXTS))] = random.choice((None, *_BYTES))
            writes.locks[key] = random.choice((None, *self.live.values()))
            position = random.randrange(5)
            edit = Edit(((random.choice(_TEXTS), random.choice(_BYTES)),), random.choice((None, "v")))
            writes.inbox[(key, position)] = random.choice((edit, *self.live.values()))
        writes.inbox_drops = [(key, random.randrange(5)) for key in self._some(self.keys)]
        writes.promise_drops = set(self._some(self.keys, 1))
        for promise in self._some(self.promises):
            result = random.choice((None, Success(b""), Success(b"1"), REFUSED))
            waiters = tuple((id_, random.randrange(9)) for id_ in self._some(list(self.live.values())))
            writes.promises[promise] = PromiseState(result, waiters)

    def _timers(self, writes: Writes) -> None:
        timers = [
            Timer(T0 + n, seq, n % 2) for n in range(4) for seq in (*list(self.live)[:3], self.next)
        ]  # fmt: skip
        writes.timers = set(self._some(timers, 3))
        writes.timer_drops = set(self._some(timers, 3))

    def _deployments(self, writes: Writes) -> None:
        for n in self._some([1, 2, 3]):
            writes.deployments[f"dp_{n}"] = self.random.choice((None, b"{}", f'{{"n":{n}}}'.encode()))

    def _messages(self, writes: Writes) -> None:
        """A tree of conversations: a message's place says which one it follows."""
        writes.message_drops = set(self._some(MESSAGES))
        for name in self._some(MESSAGES, 3):
            value = self.random.choice((b"", b"{}", b"\x00\xff", name.encode()))
            writes.messages[name] = (name[:-1], value, T0 + self.random.randrange(3))

    def _some(self, choices: Sequence[T], most: int = 2) -> list[T]:
        """None, or a few of these."""
        return self.random.sample(choices, min(len(choices), self.random.randrange(most + 1)))

    def _saved(self, seq: int, id_: InvocationId, is_new: bool) -> Saved:
        random = self.random
        numbered = Random(seq)  # what was accepted is the same each time it is said
        keyed = numbered.random() < 0.5
        target = Target(
            numbered.choice(("Cart", "Mail", "agentdur.Mail")), "add",
            numbered.choice(_TEXTS) if keyed else None,
            ServiceKind.VIRTUAL_OBJECT if keyed else ServiceKind.SERVICE,
            HandlerKind.EXCLUSIVE if keyed else HandlerKind.PLAIN,
        )  # fmt: skip
        spec = Accepted(
            id=id_, target=target, created_at=T0 + seq % 3, idempotency_key=numbered.choice((None, "a", "")),
            caller=numbered.choice((None, InvocationId("inv_1x"))), seed=numbered.choice((None, 2**64 - seq)),
        )  # fmt: skip
        head = Head(
            status=random.choice(list(Status)), attempt=random.randrange(3), failures=random.randrange(2),
            retry_at=random.choice((None, T0)), last_failure=random.choice((None, REFUSED, Failure())),
            awaiting=random.choice((None, Awaiting((1,), ("a",)), Awaiting(nested=(Awaiting((2, 3)),)))),
            waiters=random.choice(((), (Waiter(id_, 3), Waiter(id_, 4, "Attach")))),
            result=random.choice((None, Success(random.choice(_BYTES)), REFUSED)),
            modified_at=T0 + random.randrange(3), completed_at=random.choice((None, T0)),
        )  # fmt: skip
        expiry = [random.choice((None, T0, T0 + 1, T0 + 2)) for _ in range(2)]
        return Saved(seq, spec, head, is_new, random.random() < 0.8, *expiry)


MESSAGES = ["a", "ab", "abc", "abd", "b", "bc"]


def answers(store: Store, history: History) -> dict[str, object]:
    """Everything a store can be asked about the history, by question."""
    seqs, ids = range(history.next + 1), [InvocationId(f"inv_1{n:04}") for n in range(history.next + 1)]
    filters = [
        Filter(), Filter(limit=2), Filter(service="Cart"), Filter(service="Cart", key="ann"), Filter(key=""),
        Filter(statuses=("completed",)), Filter(statuses=("running", "pending"), after_seq=3),
        Filter(internal=False), Filter(internal=False, service="agentdur.Mail"),
        Filter(handler="add", service="Mail", statuses=("completed", "paused")),
    ]  # fmt: skip
    questions: dict[str, object] = {
        "next_seq": store.next_seq(), "running": list(store.running()), "count": store.count(),
        "timers": [store.timers(limit) for limit in (1, 3, 99)],
        "deployments": store.deployments(),
        "states": [
            store.states(key.service, name, after, limit)
            for key in history.keys for name in _TEXTS for after, limit in (("", 99), ("b", 1))
        ],
        "conversations": [store.conversation(name) for name in MESSAGES],
        "unused": [store.unused_messages(T0 + now, limit) for now in (0, 2, 9) for limit in (1, 99)],
        "expired": [store.expired(T0 + now, limit) for now in (0, 1, 9) for limit in (2, 99)],
    }  # fmt: skip
    questions |= {f"invocation {id_}": store.invocation(id_) for id_ in ids}
    questions |= {
        f"journal {n}": (store.journal(n), store.times(n), store.callees(n), store.attempts(n)) for n in seqs
    }  # fmt: skip
    questions |= {f"key {key}": (store.object(key), store.values(key)) for key in history.keys}
    questions |= {f"promise {promise}": store.promise(promise) for promise in history.promises}
    questions |= {f"list {which}": list(store.list(which)) for which in filters}
    return questions
