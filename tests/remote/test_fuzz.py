"""Handlers elsewhere that say anything, in any order and cut anywhere: the invocation ends, waits or is
tried again, what is stored of it can be read, and the next one is served."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentdur.core import journal as j
from agentdur.core.ids import InvocationId
from agentdur.core.ports import Filter, Request, Store
from agentdur.runtime.remote.transport import TransportFailed
from agentdur.wire import messages as m
from agentdur.wire.codec import encode
from agentdur.wire.frames import REQUESTED_ACK, pack
from agentdur.wire.values import INSTANT_MS_MAX
from tests.remote.scripted import Exchange, Peer, manifest, peer, settled, until
from tests.wire.test_codec import examples, words

ATTEMPTS_MAX = 3
MANIFESTS = [
    manifest(
        retryPolicyMaxAttempts=3, retryPolicyInitialInterval=1, retryPolicyOnMaxAttempts="KILL",
        inactivityTimeout=patience, abortTimeout=3_600_000,
    ) for patience in (0, 3_600_000)
]  # fmt: skip
"""One half-closes its attempts at once, one leaves them open."""
ENDED = ("completed", "paused")


class Mind:
    """What a handler knows of its own journal: the ids it has given out."""

    def __init__(self) -> None:
        self.last = 0
        self.runs: list[int] = []
        self.open: list[int] = []

    def new(self) -> int:
        self.last += 1
        self.open.append(self.last)
        return self.last

    def run(self) -> j.Run:
        self.runs.append(self.new())
        return j.Run(completion=self.last, name="step")

    def result(self) -> m.ProposeRunCompletion:
        step = self.runs.pop() if self.runs else 77
        return m.ProposeRunCompletion(step, j.Success(b"1") if step % 3 else j.Failure(500, "no"))

    def call(self) -> j.Call:
        return j.Call(
            service="Peer", handler="run", parameter=b"1", id_completion=self.new(), completion=self.new(),
            key=None,
        )  # fmt: skip

    def send(self) -> j.OneWayCall:
        return j.OneWayCall(
            service="Keyed", handler="edit", parameter=b"", id_completion=self.new(), invoke_at=0, key="k"
        )

    def leave(self) -> m.Suspension:
        return m.Suspension(j.Awaiting(tuple(self.open[-3:]), (17, 1)))


GOES_ON: list[Callable[[Mind], Any]] = [
    Mind.run, Mind.run, Mind.result, Mind.call, Mind.send,
    lambda mind: j.Sleep(completion=mind.new(), wake_at=1),
    lambda mind: j.Sleep(completion=mind.new(), wake_at=INSTANT_MS_MAX),
    lambda mind: j.SetState(key="a", value=b"1"),
    lambda mind: j.ClearAllState(),
    lambda mind: j.GetLazyState(key="a", completion=mind.new()),
    lambda mind: j.GetLazyStateKeys(completion=mind.new()),
    lambda mind: m.AwaitingOn(j.Awaiting(tuple(mind.open[-2:]), (1,)), True),
]  # fmt: skip
ENDS: list[Callable[[Mind], Any]] = [
    Mind.leave,
    lambda mind: j.Sleep(completion=mind.last or 1, wake_at=1),
    lambda mind: m.ProposeRunCompletion(mind.last or 1, j.Success(b"mine")),
    lambda mind: j.GetPromise(key="p", completion=mind.new()),
    lambda mind: j.Output(result=j.Success(b"1")),
    lambda mind: j.Output(result=j.Failure(400, "mine")),
    lambda mind: m.End(),
    lambda mind: m.Error(code=500, message="oh", next_retry_delay_ms=0),
]  # fmt: skip
SENSE = [*GOES_ON, *GOES_ON, *ENDS]


class Move:
    """What a handler does next; `does` is for reading a failure."""

    def __init__(self, does: str, act: Callable[[Exchange, Mind], None]) -> None:
        self.does, self.act = does, act

    def __repr__(self) -> str:
        return self.does


def _sense(which: int, ack: bool, cuts: list[int]) -> Move:
    def act(exchange: Exchange, mind: Mind) -> None:
        word = SENSE[which](mind)
        _cut(exchange, encode(word, 7, REQUESTED_ACK if ack and isinstance(word, j.Command) else 0), cuts)

    return Move(f"says {SENSE[which](Mind())!r} or the like", act)


def _cut(exchange: Exchange, data: bytes, cuts: list[int]) -> None:
    last = 0
    for cut in [*sorted(cut % len(data) for cut in cuts), len(data)]:
        exchange.say(data[last:cut])
        last = cut


def _nonsense(word: Any, ack: bool, version: int, damage: int | None, cuts: list[int]) -> Move:
    def act(exchange: Exchange, mind: Mind) -> None:
        data = encode(word, version, REQUESTED_ACK if ack else 0)
        if damage is not None:
            at = damage % len(data)
            data = data[:at] + bytes([data[at] ^ (1 + damage % 255)]) + data[at + 1 :]
        _cut(exchange, data, cuts)

    broken = "" if damage is None else f", byte {damage} broken"
    return Move(f"says {word!r} in V{version}{broken}", act)


def _noise(data: bytes) -> Move:
    return Move(f"says the bytes {data!r}", lambda exchange, mind: exchange.say(data))


def _head(status: int, kind: str) -> Move:
    def act(exchange: Exchange, mind: Mind) -> None:
        exchange._answered = True
        exchange.receiver.response(status, {"content-type": kind, "retry-after": "0"})

    return Move(f"answers {status} with {kind!r}", act)


def _over(how: str) -> Move:
    def act(exchange: Exchange, mind: Mind) -> None:
        if how == "ended":
            exchange.receiver.ended()
        else:
            exchange.receiver.lost(TransportFailed("reset", how))

    return Move(f"is {how}", act)


cuts = st.lists(st.integers(0, 400), max_size=2)
sense = st.builds(_sense, st.integers(0, len(SENSE) - 1), st.booleans(), cuts)
nonsense = st.one_of(
    st.builds(
        _nonsense, words, st.booleans(), st.sampled_from([7, 6, 5]), st.none() | st.integers(0, 400), cuts
    ),
    st.builds(_noise, st.binary(max_size=40)),
    st.builds(_noise, st.builds(pack, st.integers(0, 0xFFFF), st.binary(max_size=20))),
    st.builds(
        _head, st.sampled_from([200, 200, 204, 302, 404, 413, 415, 429, 503]),
        st.sampled_from(["", "text/html", "application/vnd.restate.invocation.v7"]),
    ),
)  # fmt: skip
sane = st.lists(sense, max_size=10)
mad = st.builds(lambda before, what, after: [*before, what, *after], sane, nonsense, sane)
handlers = st.tuples(sane | mad, st.sampled_from(["ended", "lost", "quiet", "quiet"]))


class World:
    """One engine, what went wrong on its loop, and who is asked."""

    def __init__(self, p: Peer, keyed: bool) -> None:
        self.p, self.mind = p, Mind()
        self.wrong: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: self.wrong.append(what))
        found = p.engine.catalog.target(*(("Keyed", "edit", "k") if keyed else ("Peer", "run", None)))
        assert found is not None
        self.target = found

    async def ask(self) -> InvocationId:
        invocation, receipt = self.p.engine.send(Request(target=self.target, value=b'"x"'))
        await receipt
        return invocation

    async def status(self, invocation: InvocationId) -> str:
        found = await self.p.engine.describe(invocation)
        assert found is not None
        return str(found["status"])

    async def attempts(self, invocation: InvocationId, play: list[tuple[list[Move], str]]) -> None:
        """Each attempt of whichever invocation there is plays one part, until there is none or no more."""
        for doing, how in play:
            if await self.status(invocation) in ENDED:
                return
            try:
                exchange = await asyncio.wait_for(self.p.next(), 0.05)
            except TimeoutError:
                return  # it waits for something that will not come
            self._plays(exchange, doing, how)
            await settled()

    def _plays(self, exchange: Exchange, doing: list[Move], how: str) -> None:
        for move in doing:
            if exchange.aborted:
                return
            move.act(exchange, self.mind)
        if how != "quiet" and not exchange.aborted:
            _over(how).act(exchange, self.mind)


def consistent(store: Store, invocation: str) -> None:
    """Its journal has no gap, and each completion is the only one of a command that is there."""
    row = store.invocation(InvocationId(invocation))
    assert row is not None
    asked, answered, steps = [], [], set()
    entries = store.journal(row.seq)
    assert [index for index, _ in entries] == list(range(len(entries)))
    for _, entry in entries:
        if isinstance(entry, j.Completion):
            assert entry.id in asked
            assert (entry.of == "Run") == (entry.id in steps)
            answered.append(entry.id)
        else:
            if isinstance(entry, j.Run):
                steps.add(entry.completion)
            asked += [getattr(entry, name, 0) for name in ("id_completion", "completion")]
    for ids in (answered, [id for id in asked if id]):
        assert len(ids) == len(set(ids))


async def _one_play(play: list[tuple[list[Move], str]], keyed: bool, left_open: bool) -> None:
    async with peer(MANIFESTS[left_open]) as p:
        world = World(p, keyed)
        invocation = await world.ask()
        await world.attempts(invocation, play)
        for known in await p.engine.list(Filter(internal=False)):
            shown = await p.engine.describe(known["id"])
            assert shown is not None
            assert shown["journal"]
            consistent(p.engine.store, known["id"])
            if shown["status"] != "completed":
                await p.engine.operate("kill", known["id"])
                left = await p.engine.describe(known["id"])
                assert left is None or left["status"] == "completed"  # one that had not begun is forgotten
        await settled()
        assert not p.engine.remote.live
        heard = len(p.wire.exchanges)
        fine = await world.ask()
        await until(lambda: len(p.wire.exchanges) > heard)
        p.wire.exchanges[-1].say(j.Output(result=j.Success(b'"fine"')), m.End())
        assert (await asyncio.wait_for(p.engine.attach(fine), 5)).result == j.Success(b'"fine"')
        assert world.wrong == []


@settings(max_examples=examples(400), suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(handlers, min_size=1, max_size=ATTEMPTS_MAX), st.booleans(), st.booleans())
def test_whatever_a_handler_says_the_next_one_is_served(
    play: list[tuple[list[Move], str]], keyed: bool, left_open: bool
):
    asyncio.run(_one_play(play, keyed, left_open))
