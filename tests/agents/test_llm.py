"""Model calls: asked once, paid once, and every way in which a provider can fail."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from agentdur import Context, NotInHandler, RunOptions, Service, TerminalError
from agentdur.llm import ModelAnswer, ModelRefused, Usage, completion, litellm_client
from agentdur.sdk.providers import retry_after
from agentdur.testing.scripted_llm import (
    DropBeforeHeaders,
    DropMidStream,
    EmptyChoices,
    Fault,
    Garbage,
    Hang,
    ScriptedLLM,
    Status,
    Turn,
    requests,
)
from agentdur.testing.scripted_llm import Usage as ScriptedUsage
from tests.support.stage import Stage, until

MODEL = "openai/scripted"
HI = [{"role": "user", "content": "hi"}]
SOON = timedelta(seconds=2)
IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
"""The store has no part in the story."""
chat = Service("Chat")


@chat.handler()
async def ask(ctx: Context) -> str:
    """One model call."""
    return (await completion(ctx, MODEL, HI)).text


@chat.handler()
async def ask_quickly(ctx: Context) -> str:
    """One model call that may not take long."""
    return (await completion(ctx, MODEL, HI, timeout=SOON)).text


def outcomes(llm: ScriptedLLM) -> list[str | None]:
    return [entry.outcome for entry in requests(llm.ledger())]


async def test_an_answer_is_journaled_with_what_it_cost_and_is_not_asked_for_again(
    stage: Stage, llm: ScriptedLLM
):
    """After a crash behind it the answer comes from the journal: the model hears of one request."""
    llm.replace(
        [Turn(text="hello", usage=ScriptedUsage(prompt_tokens=7, completion_tokens=2, cached_tokens=3))]
    )
    gate = asyncio.Event()
    service = Service("Chat")

    @service.handler()
    async def ask_and_wait(ctx: Context) -> str:
        answer = await completion(ctx, MODEL, HI)
        await ctx.run("wait", gate.wait)
        return f"{answer.text} {answer.usage.prompt_tokens} {answer.usage.cached_tokens} {answer.model}"

    await stage.start(service)
    sent = await stage.client.service_send(ask_and_wait)
    await until(lambda: len(stage.journal(sent.invocation_id)) == 4, "the answer in the journal")
    await stage.restart()
    gate.set()
    assert await stage.client.attach(sent.invocation_id) in ("hello 7 3 scripted", b'"hello 7 3 scripted"')
    assert outcomes(llm) == ["answered"]
    shown = await stage.until_status(sent.invocation_id, "completed")
    (step,) = [e for e in shown["journal"] if e.get("name") == "llm:Chat"]
    (answer,) = [
        e
        for e in shown["journal"]
        if e["kind"] == "Completion" and e["completion_id"] == step["completion_id"]
    ]
    meta = answer["meta"]
    assert (meta["model"], meta["prompt_tokens"], meta["completion_tokens"]) == ("scripted", 7, 2)
    assert meta["request_id"] == requests(llm.ledger())[0].request_id
    assert meta["latency_ms"] >= 0


TRANSIENT: list[tuple[Fault, str]] = [
    (Status(status=429), "ModelBusy"),
    (Status(status=500), "ModelUnavailable"),
    (Status(status=503), "ModelUnavailable"),
    (Status(status=408), "ModelUnavailable"),
    (DropBeforeHeaders(), "ModelUnavailable"),
    (DropMidStream(), "ModelUnavailable"),
    (Hang(), "ModelTimeout"),
    (Garbage(), "BadModelAnswer"),
    (EmptyChoices(), "BadModelAnswer"),
]


@IN_MEMORY
@pytest.mark.parametrize("fault", [f for f, _ in TRANSIENT], ids=str)
async def test_what_may_pass_is_tried_again_and_by_nobody_but_the_engine(
    stage: Stage, llm: ScriptedLLM, fault: Fault
):
    """One failed request, one that is answered; and no client below retried on its own."""
    llm.replace([Turn(text="hello", faults=(fault,))])
    await stage.start(chat)
    handler = ask_quickly if isinstance(fault, Hang) else ask
    assert await stage.client.service_call(handler) == "hello"
    asked = requests(llm.ledger())
    assert len(asked) == 2
    assert asked[1].outcome == "answered"
    assert {entry.retry_count for entry in asked} <= {0, None}


@IN_MEMORY
@pytest.mark.parametrize(("fault", "error"), TRANSIENT, ids=[str(f) for f, _ in TRANSIENT])
async def test_the_last_failure_says_what_kind_it_was(stage: Stage, llm: ScriptedLLM, fault: Any, error: str):
    llm.replace([Turn(text="never", faults=(type(fault)(**{**_fields(fault), "times": None}),))])
    await stage.start(chat)
    sent = await stage.client.service_send(ask_quickly if isinstance(fault, Hang) else ask)
    await until(lambda: len(requests(llm.ledger())) >= 2, "the second try")
    shown = await stage.engine.describe(sent.invocation_id)
    assert shown is not None
    assert error in shown["last_failure"]["message"]


def _fields(fault: Any) -> dict[str, Any]:
    return {name: getattr(fault, name) for name in fault.__struct_fields__}


async def test_retry_after_is_obeyed_and_replaces_the_back_off(stage: Stage, llm: ScriptedLLM):
    """The provider asks for an hour; the next attempt is in an hour, and at once when an operator says so."""
    llm.replace([Turn(text="hello", faults=(Status(status=429, retry_after_s=3600),))])
    await stage.start(chat)
    sent = await stage.client.service_send(ask)
    shown = await stage.until_status(sent.invocation_id, "backing-off")
    at = datetime.fromisoformat(shown["next_retry_at"]) - datetime.fromisoformat(shown["modified_at"])
    assert timedelta(minutes=59) < at < timedelta(minutes=61)
    assert await stage.engine.operate("resume", sent.invocation_id)
    await stage.until_status(sent.invocation_id, "completed")
    assert outcomes(llm) == ["status_429", "answered"]


REFUSALS = [
    Status(status=401, times=None),
    Status(status=400, times=None),
    Status(status=404, times=None),
    Status(status=429, code="insufficient_quota", times=None),
]


@IN_MEMORY
@pytest.mark.parametrize("fault", REFUSALS, ids=[str(f) for f in REFUSALS])
async def test_a_refusal_ends_the_invocation_at_the_first_try(stage: Stage, llm: ScriptedLLM, fault: Status):
    llm.replace([Turn(faults=(fault,))])
    await stage.start(chat)
    with pytest.raises(TerminalError) as refused:
        await stage.client.service_call(ask)
    assert refused.value.status_code == fault.status
    assert len(requests(llm.ledger())) == 1


async def test_a_refusal_is_the_same_class_live_and_replayed(stage: Stage, llm: ScriptedLLM):
    """A handler that knows another way catches ModelRefused, before the crash and after it."""
    llm.replace([Turn(faults=(Status(status=400, times=None),))])
    gate, caught = asyncio.Event(), []
    service = Service("Chat")

    @service.handler()
    async def ask_otherwise(ctx: Context) -> str:
        try:
            await completion(ctx, MODEL, HI)
        except ModelRefused as refused:
            caught.append(refused.status_code)
        await ctx.run("wait", gate.wait)
        return "another way"

    await stage.start(service)
    sent = await stage.client.service_send(ask_otherwise)
    await until(lambda: len(stage.journal(sent.invocation_id)) == 4, "the refusal in the journal")
    await stage.restart()
    gate.set()
    await stage.until_status(sent.invocation_id, "completed")
    assert caught == [400, 400]
    assert len(requests(llm.ledger())) == 1


async def test_cancelling_the_invocation_closes_the_connection(stage: Stage, llm: ScriptedLLM):
    """The provider sees us leave: it need not finish what nobody will read."""
    llm.replace([Turn(text="too late", delay_ms=60_000)])
    await stage.start(chat)
    sent = await stage.client.service_send(ask)
    await until(lambda: len(llm.ledger()) == 1, "the request")
    await stage.engine.operate("cancel", sent.invocation_id)
    shown = await stage.until_status(sent.invocation_id, "completed")
    await until(lambda: outcomes(llm) == ["client_gone"], "the closed connection")
    assert shown["completion_result"] == "failure"


async def test_a_call_may_have_a_policy_of_its_own(stage: Stage, llm: ScriptedLLM):
    """Two tries, then the handler is told."""
    llm.replace([Turn(faults=(Status(status=500, times=None),))])
    service = Service("Chat")
    twice: RunOptions[ModelAnswer] = RunOptions(
        max_attempts=2, initial_retry_interval=timedelta(milliseconds=1)
    )

    @service.handler()
    async def ask_twice(ctx: Context) -> str:
        try:
            return (await completion(ctx, MODEL, HI, options=twice)).text
        except TerminalError as error:
            return f"gave up: {error.status_code}"

    await stage.start(service)
    assert await stage.client.service_call(ask_twice) == "gave up: 500"
    assert len(requests(llm.ledger())) == 2


class Weather(BaseModel):
    """What the model shall answer with."""

    city: str
    celsius: float


async def test_an_answer_in_a_form_is_read_as_that_type(stage: Stage, llm: ScriptedLLM):
    llm.replace([Turn(text='{"city": "Oslo", "celsius": -3}')])
    service = Service("Chat")

    @service.handler()
    async def weather(ctx: Context) -> Weather:
        return (await completion(ctx, MODEL, HI, response_format=Weather)).parsed(Weather)

    await stage.start(service)
    assert await stage.client.service_call(weather) == Weather(city="Oslo", celsius=-3)


def answer(text: str) -> ModelAnswer:
    return ModelAnswer(message={"role": "assistant", "content": text}, usage=Usage(prompt_tokens=1))


@pytest.mark.parametrize("text", ["", "no json", '{"city": "Oslo"}'])
def test_an_answer_that_has_not_the_form_is_refused(text: str):
    with pytest.raises(ValueError, match="the model's answer is no Weather"):
        answer(text).parsed(Weather)


async def test_outside_of_a_handler_no_model_is_asked(llm: ScriptedLLM):
    with pytest.raises(NotInHandler):
        await completion(None, MODEL, HI)
    assert llm.ledger() == ()


async def test_without_litellm_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(litellm_client, "litellm", None)
    with pytest.raises(ModuleNotFoundError, match=r"agentdur\[litellm\]"):
        await litellm_client.ask(MODEL, HI, {}, SOON)


IN_A_MINUTE = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({"retry-after-ms": "1500"}, 1.5, 1.5),
        ({"retry-after": "2"}, 2, 2),
        ({"retry-after": "0.5"}, 0.5, 0.5),
        ({"retry-after": IN_A_MINUTE}, 0, 60),
        ({"retry-after": "Mon, 01 Jan 2024 00:00:00 GMT"}, 0, 0),
    ],
)
def test_retry_after_is_read_in_its_three_spellings(headers: dict[str, str], low: float, high: float):
    found = retry_after(httpx.Headers(headers))
    assert found is not None
    assert low <= found.total_seconds() <= high


@pytest.mark.parametrize(
    "headers", [{}, {"retry-after": "soon"}, {"retry-after-ms": "x"}, {"retry-after": "1e999"}]
)
def test_a_header_nobody_can_read_asks_for_nothing(headers: dict[str, str]):
    assert retry_after(httpx.Headers(headers)) is None
