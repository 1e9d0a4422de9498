"""Attempts elsewhere: what is said when, how they come to leave, and that nothing of them stays behind."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agentdur.core import journal as j
from agentdur.core.errors import StoreFailed
from agentdur.core.ids import InvocationId
from agentdur.core.ports import Request
from agentdur.runtime.drivers import remote
from agentdur.stores.sqlite import SqliteStore
from agentdur.wire import messages as m
from agentdur.wire.codec import encode
from agentdur.wire.frames import REQUESTED_ACK, pack
from tests.remote.scripted import Peer, manifest, peer, settled, until

OUTPUT, END = j.Output(result=j.Success(b'"done"')), m.End()
DONE = j.Success(b'"done"')
RUN = j.Run(completion=1, name="step")
RESULT = m.ProposeRunCompletion(1, j.Success(b"1"))
STORED = j.Completion(1, "Run", j.Success(b"1"))


async def begun(p: Peer, service: str = "Peer", handler: str = "run", key: str | None = None) -> InvocationId:
    target = p.engine.catalog.target(service, handler, key)
    assert target is not None
    invocation, receipt = p.engine.send(Request(target=target, value=b'"x"'))
    await receipt
    return invocation


async def result(p: Peer, invocation: InvocationId) -> Any:
    return (await asyncio.wait_for(p.engine.attach(invocation), 10)).result


# -- what is said


async def test_an_attempt_begins_with_what_is_stored_and_no_sooner():
    """Start and journal leave when the submission is durable."""
    async with peer() as p:
        p.gate.shut = True
        target = p.engine.catalog.target("Peer", "run")
        assert target is not None
        invocation, _ = p.engine.call(Request(target=target, value=b'"x"'))
        await settled()
        assert p.wire.exchanges == []
        p.gate.open()
        attempt = await p.next()
        start, given = attempt.heard()
        assert isinstance(start, m.Start)
        assert isinstance(given, j.Input)
        assert (start.debug_id, start.known_entries, start.partial_state) == (invocation, 1, True)
        assert given.value == b'"x"'
        assert attempt.path == "/invoke/Peer/run"
        assert attempt.headers["x-restate-invocation-id"] == invocation
        attempt.say(OUTPUT, END)
        assert await result(p, invocation) == DONE


@pytest.mark.parametrize(
    ("version", "flags", "answer"),
    [
        (5, 0, STORED),
        (6, REQUESTED_ACK, STORED),
        (7, 0, STORED),
        (7, REQUESTED_ACK, m.ProposeRunCompletionAck(1)),
    ],
)
async def test_the_result_of_a_step_is_answered_when_it_is_durable(version: int, flags: int, answer: m.Word):
    """In full up to V6; with a short word in V7, when it was asked for."""
    async with peer(manifest((5, version))) as p:
        invocation = await begun(p)
        attempt = await p.next()
        attempt.say(RUN)
        p.gate.shut = True
        attempt.say(RESULT, flags=flags)
        await settled()
        assert len(attempt.heard()) == 2, "nothing before the commit"
        p.gate.open()
        await attempt.hears(answer)
        attempt.say(OUTPUT, END)
        assert await result(p, invocation) == DONE


async def test_a_command_is_acknowledged_when_that_was_asked_for_and_before_its_completion():
    async with peer() as p:
        invocation = await begun(p)
        attempt = await p.next()
        attempt.say(j.Sleep(wake_at=0, completion=1))
        await attempt.hears(j.Completion(1, "Sleep", j.VOID))
        attempt.say(j.Sleep(wake_at=0, completion=2), flags=REQUESTED_ACK)
        await attempt.hears(j.Completion(2, "Sleep", j.VOID))
        assert attempt.heard()[2:] == [
            j.Completion(1, "Sleep", j.VOID), m.CommandAck(2), j.Completion(2, "Sleep", j.VOID),
        ]  # fmt: skip
        attempt.say(OUTPUT, END)
        assert await result(p, invocation) == DONE


async def test_who_says_more_than_is_stored_is_given_no_room():
    """Memory holds no more of a handler's words than the window of its stream while the disk is slow."""
    async with peer() as p:
        invocation = await begun(p)
        attempt = await p.next()
        p.gate.shut = True
        attempt.say(RUN)
        await settled()
        assert attempt.room > 0
        p.gate.open()
        await until(lambda: attempt.room == 0)
        half = encode(OUTPUT, 7)
        attempt.say(half[:9])
        assert attempt.room == 0, "a piece of a message can only be joined by more"
        attempt.say(half[9:], END)
        assert await result(p, invocation) == DONE
        assert attempt.room == 0


async def test_a_key_with_little_state_comes_with_all_of_it_and_one_with_much_with_none():
    async with peer() as p:
        p.engine.remote.eager_bytes_max = 10
        key = p.engine.catalog.target("Keyed", "edit", "k")
        assert key is not None
        for value, known, partial in ((b"small", (("v", b"small"),), False), (b"l" * 11, (), True)):
            await p.engine.edit_state(key.object, {"v": value}, None)
            invocation = await begun(p, "Keyed", "edit", "k")
            attempt = await p.next()
            start = attempt.heard()[0]
            assert isinstance(start, m.Start)
            assert (start.key, start.state, start.partial_state) == ("k", known, partial)
            assert attempt.headers["x-restate-service-key"] == "k"
            attempt.say(j.GetLazyState(key="v", completion=1))
            await attempt.hears(j.Completion(1, "GetState", j.Success(value)))
            attempt.say(OUTPUT, END)
            assert await result(p, invocation) == DONE


# -- how attempts come to leave


async def test_what_a_handler_says_it_waits_for_is_shown_until_something_comes():
    async with peer() as p:
        invocation = await begun(p)
        attempt = await p.next()
        attempt.say(
            j.Sleep(wake_at=0, completion=1), m.AwaitingOn(j.Awaiting(completions=(1,), signals=(17,)))
        )

        async def shown() -> Any:
            found = await p.engine.describe(invocation)
            assert found is not None
            return found.get("waiting_for")

        await settled()
        async with asyncio.timeout(10):
            while await shown() is not None:  # the sleep is over
                await asyncio.sleep(0.002)
        attempt.say(m.AwaitingOn(j.Awaiting(signals=(17, "go"))))
        assert await shown() == ["awakeable 17", "signal go"]
        attempt.say(OUTPUT, END)
        assert await result(p, invocation) == DONE
        assert await shown() is None


@pytest.mark.slow
async def test_a_quiet_attempt_is_asked_to_leave_and_one_that_does_not_is_aborted():
    """Half close after the inactivity timeout; RT0001 after the abort timeout, and a new attempt."""
    said = manifest(inactivityTimeout=200, abortTimeout=300, retryPolicyInitialInterval=1)
    async with peer(said) as p:
        invocation = await begun(p)
        attempt = await p.next()
        assert not attempt.half_closed
        await until(lambda: attempt.half_closed)
        assert not attempt.aborted
        await until(lambda: attempt.aborted)
        (await p.next()).say(OUTPUT, END)
        assert await result(p, invocation) == DONE


async def test_without_a_stream_the_request_is_complete_at_once_and_only_the_abort_timeout_counts():
    said = manifest(
        mode="REQUEST_RESPONSE", inactivityTimeout=60_000, abortTimeout=200, retryPolicyInitialInterval=1
    )
    async with peer(said) as p:
        await begun(p)
        attempt = await p.next()
        assert attempt.half_closed
        await until(lambda: attempt.aborted, 2)


async def test_one_that_waits_leaves_for_one_that_wants_to_run():
    """One place, and a handler that calls another: both would wait for the inactivity timeout."""
    async with peer(live_attempts=1) as p:
        invocation = await begun(p)
        caller = await p.next()
        caller.say(j.Call(service="Peer", handler="run", id_completion=1, completion=2))
        await until(lambda: caller.half_closed, 2)
        caller.say(m.Suspension(j.Awaiting((2,), (1,))))
        (await p.next()).say(OUTPUT, END)
        again = await p.next()
        assert again.heard()[-1] == j.Completion(2, "Call", DONE)
        again.say(OUTPUT, END)
        assert await result(p, invocation) == DONE


@pytest.mark.parametrize("action", ["kill", "pause"])
async def test_an_attempt_that_an_operator_ends_leaves_its_place(action: Any):
    """Its stream is reset, and the next invocation runs in its place; nothing of it stays in memory."""
    async with peer(live_attempts=1) as p:
        for _ in range(3):
            invocation = await begun(p)
            attempt = await p.next()
            attempt.say(RUN)
            await p.engine.operate(action, invocation)
            assert attempt.aborted
            assert attempt.room == 0
            attempt.say(RESULT)  # too late
        await settled()
        assert not p.engine.remote.live
        assert not p.engine.machine.slots.invocations
        invocation = await begun(p)
        (await p.next()).say(OUTPUT, END)
        assert await result(p, invocation) == DONE


@pytest.mark.slow
async def test_what_comes_after_the_last_word_is_ignored_for_a_while_and_then_cut_off(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(remote, "SURPLUS_SECONDS_MAX", 0.3)
    async with peer() as p:
        invocation = await begun(p)
        attempt = await p.next()
        attempt.say(OUTPUT, END, RUN, RUN)
        assert await result(p, invocation) == DONE
        attempt.say(b"\xff" * 100_000)
        assert (attempt.room, attempt.half_closed, attempt.aborted) == (0, True, False)
        await until(lambda: attempt.aborted)


async def test_one_that_ends_its_answer_is_not_reset():
    async with peer() as p:
        invocation = await begun(p)
        attempt = await p.next()
        attempt.say(OUTPUT, END)
        attempt.receiver.ended()
        assert await result(p, invocation) == DONE
        assert not p.engine.remote._leaving


# -- what may not harm the engine


@pytest.mark.parametrize(
    "words",
    [
        (j.Run(completion=2**32 - 1),),
        (j.Sleep(wake_at=2**63, completion=1),),
        (j.Sleep(wake_at=2**64 - 1, completion=1),),
        (m.Suspension(j.Awaiting()),),
        (RUN, m.Suspension(j.Awaiting())),
        (j.OneWayCall(service="Peer", handler="run", id_completion=1, invoke_at=2**64 - 1),),
        (m.Error(code=2**32 - 1, next_retry_delay_ms=2**64 - 1),),
        (j.CompleteAwakeable(awakeable="sign_1", result=j.Success(b"")),),
        (j.SendSignal(target="inv_1", signal=2**32 - 1, outcome=j.VOID),),
        (j.AttachInvocation(j.InvocationRef(InvocationId("inv_1zzz")), completion=1),),
    ],
    ids=str,
)
async def test_what_is_out_of_all_proportion_harms_nobody_else(words: Any, tmp_path: Path):
    """Whatever becomes of that invocation, it can be killed, and the next one is served."""
    async with peer(store=SqliteStore(str(tmp_path / "store.db"))) as p:
        invocation = await begun(p)
        attempt = await p.next()
        for word in words:
            attempt.say(word)
        await settled()
        assert p.engine.machine.error is None
        await p.engine.operate("kill", invocation)
        fresh = await begun(p)
        while (attempt := await p.next()).headers["x-restate-invocation-id"] != fresh:
            pass
        attempt.say(OUTPUT, END)
        assert await result(p, fresh) == DONE


async def test_a_retention_for_ever_is_a_long_one(tmp_path: Path):
    """Some languages write their largest number; it fits into the store and into a date."""
    said = manifest(
        journalRetention=2**64 - 1, idempotencyRetention=2**70, inactivityTimeout=2**63, abortTimeout=2**63,
        retryPolicyInitialInterval=2**63, retryPolicyMaxInterval=2**63,
    )  # fmt: skip
    async with peer(said, SqliteStore(str(tmp_path / "store.db"))) as p:
        invocation = await begun(p)
        (await p.next()).say(OUTPUT, END)
        assert await result(p, invocation) == DONE
        failing = await begun(p)
        (await p.next()).say(m.Error(message="later"))
        await settled()
        shown = await p.engine.describe(failing)
        assert shown is not None
        assert shown["status"] == "backing-off"
        assert p.engine.machine.error is None


async def test_a_store_that_fails_takes_the_attempt_with_it_and_another_one_goes_on():
    """The handler heard nothing that is not stored; after the store is back it begins with what is."""
    async with peer() as p:
        invocation = await begun(p)
        attempt = await p.next()
        attempt.say(RUN)
        await settled()
        p.gate.shut = True
        attempt.say(RESULT)
        await settled()
        p.gate.shut, p.gate.held = False, []
        p.engine.machine.writer.die(StoreFailed("the disk is gone"))
        assert attempt.aborted
        assert attempt.room == 0
        again = await p.next()
        assert again.heard()[2:] == [RUN]
        again.say(RESULT, OUTPUT, END)
        assert await result(p, invocation) == DONE


@pytest.mark.slow
async def test_pieces_of_a_message_that_never_ends_are_no_sign_of_life():
    """Each byte arrives in time, and still it is aborted."""
    said = manifest(inactivityTimeout=100, abortTimeout=200, retryPolicyInitialInterval=1)
    async with peer(said) as p:
        await begun(p)
        attempt = await p.next()
        attempt.say(pack(0x0411, bytes(1_000_000))[:8])

        def one_more_byte() -> bool:
            if not attempt.aborted:
                attempt.say(b"\0")
            return attempt.aborted

        await until(one_more_byte)
