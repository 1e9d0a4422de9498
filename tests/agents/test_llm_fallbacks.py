"""Other models, when the first one cannot: who answered and why the others did not is in the journal."""

from __future__ import annotations

import asyncio

import pytest

from agentdur import Context, Service, TerminalError
from agentdur.llm import ModelRefused, completion
from agentdur.testing.scripted_llm import DropBeforeHeaders, ScriptedLLM, Status, Turn, When
from tests.agents.llm_world import HI, IN_MEMORY, MODEL, OTHER, TWICE, metas, models, outcomes, steps
from tests.support.stage import Stage, until

TOO_LONG = Status(
    status=400, code="context_length_exceeded", message="This model's maximum context length is 8 tokens",
    times=None,
)  # fmt: skip
FOR_THIS_MODEL = [
    Status(status=404, times=None),
    Status(status=403, times=None),
    Status(status=429, code="insufficient_quota", times=None),
    TOO_LONG,
]
chat = Service("Chat")


@chat.handler()
async def ask(ctx: Context) -> str:
    """One question, two models."""
    return (await completion(ctx, MODEL, HI, fallbacks=[OTHER], options=TWICE)).text


def two_models(llm: ScriptedLLM, first: Turn) -> None:
    """`scripted` plays that turn, `other` answers."""
    only = When(model="scripted")
    llm.replace([Turn(text=first.text, faults=first.faults, when=only), Turn(text="from the other")])


@IN_MEMORY
@pytest.mark.parametrize("fault", FOR_THIS_MODEL, ids=str)
async def test_what_a_model_refuses_another_one_is_asked(stage: Stage, llm: ScriptedLLM, fault: Status):
    two_models(llm, Turn(faults=(fault,)))
    await stage.start(chat)
    sent = await stage.client.service_send(ask)
    shown = await stage.until_status(sent.invocation_id, "completed")
    assert shown["output"] == "from the other"
    assert models(llm) == ["scripted", "other"]
    (first, why), second = steps(stage, sent.invocation_id)
    assert first == "llm:Chat"
    assert "openai/scripted" in why
    assert second == ("llm:Chat/fallback", "value")
    (meta,) = metas(shown)
    assert (meta["model"], meta["asked"]) == ("other", MODEL)


@IN_MEMORY
@pytest.mark.parametrize("status", [400, 401])
async def test_what_every_model_would_refuse_is_asked_of_no_other(
    stage: Stage, llm: ScriptedLLM, status: int
):
    two_models(llm, Turn(faults=(Status(status=status, times=None),)))
    await stage.start(chat)
    with pytest.raises(TerminalError) as refused:
        await stage.client.service_call(ask)
    assert refused.value.status_code == status
    assert models(llm) == ["scripted"]


@IN_MEMORY
@pytest.mark.parametrize("fault", [Status(status=500, times=None), DropBeforeHeaders(times=None)], ids=str)
async def test_a_model_that_failed_as_often_as_allowed_is_left_for_another(
    stage: Stage, llm: ScriptedLLM, fault: Status
):
    two_models(llm, Turn(faults=(fault,)))
    await stage.start(chat)
    assert await stage.client.service_call(ask) == "from the other"
    assert models(llm) == ["scripted", "scripted", "other"]


@IN_MEMORY
async def test_a_provider_that_asks_for_an_hour_is_left_for_another(stage: Stage, llm: ScriptedLLM):
    """With another model at hand nobody waits longer than a minute, unless the call says so."""
    two_models(llm, Turn(faults=(Status(status=429, retry_after_s=3600, times=None),)))
    await stage.start(chat)
    assert await stage.client.service_call(ask) == "from the other"
    assert models(llm) == ["scripted", "other"]


@IN_MEMORY
async def test_when_the_last_one_cannot_either_its_error_is_told(stage: Stage, llm: ScriptedLLM):
    llm.replace([Turn(faults=(Status(status=404, times=None),))])
    await stage.start(chat)
    with pytest.raises(TerminalError, match="openai/other") as refused:
        await stage.client.service_call(ask)
    assert (refused.value.metadata or {})["agentdur_code"] == ModelRefused.code
    assert models(llm) == ["scripted", "other"]


async def test_after_a_crash_the_fallback_is_not_paid_again_and_the_first_not_asked_again(
    stage: Stage, llm: ScriptedLLM
):
    two_models(llm, Turn(faults=(Status(status=404, times=None),)))
    gate = asyncio.Event()
    service = Service("Chat")

    @service.handler()
    async def ask_and_wait(ctx: Context) -> str:
        answer = await completion(ctx, MODEL, HI, fallbacks=[OTHER])
        await ctx.run("wait", gate.wait)
        return answer.text

    await stage.start(service)
    sent = await stage.client.service_send(ask_and_wait)
    await until(lambda: len(stage.journal(sent.invocation_id)) == 6, "the answer in the journal")
    await stage.restart()
    gate.set()
    assert (await stage.until_status(sent.invocation_id, "completed"))["output"] == "from the other"
    assert outcomes(llm) == ["status_404", "answered"]
