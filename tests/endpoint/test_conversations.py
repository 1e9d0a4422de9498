"""What an endpoint says to a server, frame by frame; no server is needed to see it."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from typing import Any

import pytest

from agentdur import Context, ObjectContext, RunOptions, Service, TerminalError, VirtualObject
from agentdur.core import journal as j
from agentdur.sdk.endpoint import Endpoint
from agentdur.wire import messages as m
from agentdur.wire.codec import decode, encode
from agentdur.wire.frames import FrameReader
from tests.endpoint.talk import ID, NAME, Talk

svc, obj = Service("Svc"), VirtualObject("Obj")
RAN: list[str] = []


async def work(name: str) -> str:
    RAN.append(name)
    await asyncio.sleep(0)
    return name.upper()


@svc.handler()
async def greet(ctx: Context, name: str) -> str:
    first = await ctx.run("one", work, name)
    return f"{first} {await ctx.run('two', work, name)}"


@svc.handler()
async def side_by_side(ctx: Context, names: list[str]) -> list[str]:
    async def twice(name: str) -> str:
        once = await ctx.run("first", work, name)
        await ctx.sleep(timedelta(seconds=len(name)))
        return await ctx.run("again", work, once)

    return list(await asyncio.gather(*(twice(name) for name in names)))


@svc.handler()
async def refuses(ctx: Context) -> None:
    raise TerminalError("never", 418)


@svc.handler()
async def breaks(ctx: Context) -> None:
    raise ValueError("today")


@svc.handler()
async def stubborn(ctx: Context) -> str:
    async def fail() -> None:
        raise ValueError("again")

    try:
        await ctx.run_typed("hopeless", fail, RunOptions(max_attempts=3))
    except TerminalError as error:
        return f"gave up: {error.message}"
    return "?"


@svc.handler()
async def undone(ctx: Context) -> str:
    try:
        await ctx.sleep(timedelta(days=1))
    except TerminalError:
        await ctx.run("undo", work, "undo")
        raise
    return "slept"


@obj.handler()
async def count(ctx: ObjectContext, n: int) -> list[Any]:
    before = await ctx.get("n", type_hint=int)
    ctx.set("n", (before or 0) + n)
    return [before, await ctx.get("n"), await ctx.state_keys()]


APP = Endpoint([svc, obj])


def kinds(said: list[Any]) -> list[str]:
    return [type(word).__name__ for word in said]


async def test_request_and_response_leaves_at_each_result_and_goes_on_from_it():
    """Without a way to be answered, a result is only known to be stored in the next attempt."""
    RAN.clear()
    talk = Talk(APP, "Svc/greet", b'"bob"')
    assert kinds(await talk.attempt()) == ["Run", "ProposeRunCompletion", "Run", "Suspension"]
    assert talk.said[-1] == m.Suspension(j.Awaiting((1,), (1,)))
    assert RAN == ["bob"]
    assert await talk.to_the_end() == j.Success(b'"BOB BOB"')
    assert RAN == ["bob", "bob"]
    assert talk.headers[b"x-restate-server"].startswith(b"agentdur/")


@pytest.mark.parametrize("version", [5, 6, 7])
async def test_over_http2_results_are_acknowledged_and_the_attempt_goes_on(version: int):
    """V7 acknowledges by an id, V5 and V6 by the whole result; the next step waits for either."""
    RAN.clear()

    def answer(word: Any, talk: Talk) -> None:
        if isinstance(word, m.ProposeRunCompletion):
            if version == 7:
                talk.push(m.ProposeRunCompletionAck(word.completion))
            else:
                talk.push(j.Completion(word.completion, "Run", word.result))

    talk = Talk(APP, "Svc/greet", b'"bob"', version=version)
    said = await talk.attempt(open_ended=True, answer=answer)
    assert kinds(said) == ["Run", "ProposeRunCompletion", "Run", "ProposeRunCompletion", "Output", "End"]
    assert RAN == ["bob", "bob"]


async def test_branches_find_their_entries_by_name_in_whatever_order_they_were_stored():
    """The journal of another engine keeps no branches; their names carry them."""
    RAN.clear()

    async def wake(talk: Talk) -> None:
        done = {word.id for word in talk.journal if isinstance(word, j.Completion)}
        asleep = [word for word in talk.journal if isinstance(word, j.Sleep) and word.completion not in done]
        for sleep in reversed(asleep):  # the last one wakes first
            talk.store(j.Completion(sleep.completion, "Sleep", j.VOID))
            break

    talk = Talk(APP, "Svc/side_by_side", b'["a","b","c"]')
    assert await talk.to_the_end(wake) == j.Success(b'["A","B","C"]')
    assert sorted(RAN) == ["A", "B", "C", "a", "b", "c"]
    names = [word.name for word in talk.journal if isinstance(word, j.Run)]
    assert "first ⑂ side_by_side.twice" in names
    assert "again ⑂ side_by_side.twice#2" in names


async def test_a_terminal_error_is_an_output_and_any_other_an_error():
    """The first ends the invocation, the second is tried again by the server's policy."""
    talk = Talk(APP, "Svc/refuses")
    assert await talk.attempt() == [j.Output(result=j.Failure(418, "never")), m.End()]
    said = await Talk(APP, "Svc/breaks").attempt()
    assert kinds(said) == ["Error"]
    assert (said[0].code, said[0].message, said[0].behavior) == (500, "today", "retry")
    assert "ValueError" in said[0].stacktrace


async def test_the_server_counts_the_failures_of_a_step():
    """Each attempt may run in another process."""
    for earlier, kind in ((0, "Error"), (1, "Error"), (2, "ProposeRunCompletion")):
        said = await Talk(APP, "Svc/stubborn", retry_count=earlier).attempt()
        assert kinds(said)[1] == kind
    talk = Talk(APP, "Svc/stubborn", retry_count=2)
    result = await talk.to_the_end()
    assert isinstance(result, j.Success)
    assert b"gave up" in result.value


async def test_code_that_does_not_fit_its_journal_pauses_with_570():
    talk = Talk(APP, "Svc/greet", b'"bob"')
    await talk.attempt()
    talk.journal[1] = j.Run(completion=1, name="another")
    said = await talk.attempt()
    assert (said[-1].code, said[-1].behavior) == (570, "pause")
    assert "Run 'another'" in said[-1].message
    assert "Run 'one'" in said[-1].message


async def test_a_cancel_interrupts_a_sleep_and_compensations_run():
    RAN.clear()
    talk = Talk(APP, "Svc/undone")
    assert talk.said == []
    said = await talk.attempt()
    assert kinds(said) == ["Sleep", "Suspension"]
    talk.store(j.Signal(j.CANCEL_SIGNAL, j.VOID))
    result = await talk.to_the_end()
    assert isinstance(result, j.Failure)
    assert result.code == 409
    assert RAN == ["undo"]


async def test_state_that_came_along_is_read_at_once_and_other_state_is_asked_for():
    full = Talk(APP, "Obj/count", b"2", state=(("n", b"5"),), key="k")
    assert kinds(await full.attempt()) == [
        "GetEagerState", "SetState", "GetEagerState", "GetEagerStateKeys", "Output", "End",
    ]  # fmt: skip
    assert full.journal[-1].result == j.Success(b'[5,7,["n"]]')
    partial = Talk(APP, "Obj/count", b"2", partial_state=True, key="k")
    assert kinds(await partial.attempt()) == ["GetLazyState", "Suspension"]
    partial.store(j.Completion(1, "GetState", j.VOID))
    assert kinds(await partial.attempt()) == ["SetState", "GetEagerState", "GetLazyStateKeys", "Suspension"]
    partial.store(j.Completion(2, "GetStateKeys", j.Keys(("n",))))
    await partial.attempt()
    assert partial.journal[-1].result == j.Success(b'[null,2,["n"]]')


async def test_an_awakeable_s_id_is_made_of_the_invocation_and_its_place():
    asked = Service("Asked")

    @asked.handler()
    async def ask(ctx: Context) -> str:
        name, answer = ctx.awakeable(type_hint=str)
        await ctx.run("tell", work, name)
        return await answer

    talk = Talk(Endpoint([asked]), "Asked/ask")
    await talk.attempt()
    told = base64.urlsafe_b64encode(ID + (17).to_bytes(4, "big")).decode().rstrip("=")
    assert talk.journal[-1].outcome == j.Success(f'"SIGN_1{told.upper()}"'.encode())
    talk.store(j.Signal(17, j.Success(b'"yes"')))
    assert await talk.to_the_end() == j.Success(b'"yes"')


@pytest.mark.parametrize(
    "frames",
    [
        encode(j.Run(completion=1), 6),
        encode(m.Start(id=ID, debug_id=NAME, known_entries=0), 6),
        encode(m.Start(id=ID, debug_id=NAME, known_entries=2), 6) + encode(j.Input(), 6),
        encode(m.Start(id=ID, debug_id=NAME), 6) + encode(j.Run(completion=1), 6),
        b"\0\0\0",
        encode(m.Start(id=ID, debug_id=NAME), 6) + encode(m.End(), 6),
    ],
)
async def test_a_server_that_breaks_the_protocol_is_told_so(frames: bytes):
    reader, said = FrameReader(), []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": frames, "more_body": False}

    async def send(message: Any) -> None:
        said.extend(decode(frame, 6) for frame in reader.feed(message.get("body", b"")))

    kind = b"application/vnd.restate.invocation.v6"
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": "/invoke/Svc/greet",
        "headers": [(b"content-type", kind)],
    }  # fmt: skip
    await asyncio.wait_for(APP(scope, receive, send), 5)
    assert [(type(word), word.code) for word in said] == [(m.Error, 571)]


async def test_a_client_that_leaves_ends_the_attempt():
    """Its steps are cancelled: the next attempt, perhaps elsewhere, does them."""
    cut = asyncio.Event()
    slow = Service("Slow")

    @slow.handler()
    async def wait(ctx: Context) -> None:
        async def stay() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                cut.set()

        await ctx.run("stay", stay)

    talk = Talk(Endpoint([slow]), "Slow/wait")
    inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def leave(word: Any, _: Talk) -> None:
        talk._inbox.put_nowait({"type": "http.disconnect"})

    await talk.attempt(open_ended=True, answer=leave)
    await asyncio.wait_for(cut.wait(), 5)
    assert inbox.empty()


def event(path: str, body: bytes = b"", kind: str = "") -> dict[str, Any]:
    return {
        "path": path, "httpMethod": "POST" if body else "GET", "isBase64Encoded": True,
        "headers": {"content-type": kind} if body else {"accept": kind},
        "body": base64.b64encode(body).decode(),
    }  # fmt: skip


def test_the_same_endpoint_is_a_lambda_function():
    handler = APP.lambda_handler()
    manifest = handler(event("/discover", kind="application/vnd.restate.endpointmanifest.v4+json"), None)
    assert manifest["statusCode"] == 200
    assert b'"REQUEST_RESPONSE"' in base64.b64decode(manifest["body"])
    frames = encode(m.Start(id=ID, debug_id=NAME), 6) + encode(j.Input(value=b'"bob"'), 6)
    kind = "application/vnd.restate.invocation.v6"
    answer = handler(event("/invoke/Svc/greet", frames, kind), None)
    said = [decode(frame, 6) for frame in FrameReader().feed(base64.b64decode(answer["body"]))]
    assert kinds(said) == ["Run", "ProposeRunCompletion", "Run", "Suspension"]
    assert answer["headers"]["content-type"] == kind
