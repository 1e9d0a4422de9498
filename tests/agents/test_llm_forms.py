"""Answers in a form: what the model is told, what is checked, and what happens when it does not fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec
import pytest
from pydantic import BaseModel

from agentdur import Context, Service, TerminalError
from agentdur.core.errors import BadDefinition
from agentdur.llm import AnswerMisfit, completion
from agentdur.llm.structured import Form
from agentdur.testing.scripted_llm import ScriptedLLM, ToolCall, Turn
from tests.agents.llm_world import HI, MODEL, outcomes, steps
from tests.support.stage import Stage


class Modelled(BaseModel):
    """A pydantic model."""

    city: str
    celsius: float


@dataclass
class Plain:
    """A dataclass."""

    city: str
    celsius: float


class Typed(TypedDict):
    """A TypedDict."""

    city: str
    celsius: float


class Structured(msgspec.Struct):
    """A Struct."""

    city: str
    celsius: float


OSLO = '{"city": "Oslo", "celsius": -3}'
FORMS = [Modelled, Plain, Typed, Structured]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
async def test_every_kind_of_type_is_described_to_the_model_and_read_back(
    stage: Stage, llm: ScriptedLLM, form: Any
):
    llm.replace([Turn(text=OSLO)])
    service = Service("Weather")

    @service.handler()
    async def weather(ctx: Context) -> dict[str, Any]:
        answer = await completion(ctx, MODEL, HI, response_format=form)
        found = answer.parsed(form)
        assert isinstance(found, dict if form is Typed else form)
        return {"city": found["city"] if isinstance(found, dict) else found.city}

    await stage.start(service)
    assert await stage.client.service_call(weather) == {"city": "Oslo"}
    sent = Form(form).sent
    if form is not Modelled:
        assert sent["type"] == "json_schema"
        assert sent["json_schema"]["name"] == form.__name__
        assert sent["json_schema"]["schema"]["type"] == "object"
        assert set(sent["json_schema"]["schema"]["properties"]) == {"city", "celsius"}


async def test_an_answer_that_does_not_fit_goes_back_to_the_model_once(stage: Stage, llm: ScriptedLLM):
    """The second call is a step of its own, and the model reads what was wrong."""
    llm.replace([Turn(text='{"city": "Oslo"}'), Turn(text=OSLO)])
    service = Service("Weather")

    @service.handler()
    async def weather(ctx: Context) -> float:
        return (await completion(ctx, MODEL, HI, response_format=Plain)).parsed(Plain).celsius

    await stage.start(service)
    sent = await stage.client.service_send(weather)
    assert await stage.client.attach(sent.invocation_id) in (-3, b"-3.0")
    assert steps(stage, sent.invocation_id) == [("llm:Weather", "value"), ("llm:Weather/repair", "value")]
    asked = llm.ledger()
    assert asked[-1].message_count == 3
    assert outcomes(llm) == ["answered", "answered"]


async def test_after_its_repairs_a_misfit_is_an_error_that_says_what_does_not_fit(
    stage: Stage, llm: ScriptedLLM
):
    llm.replace([Turn(text="no json"), Turn(text='{"city": 1, "celsius": 2}')])
    service = Service("Weather")

    @service.handler()
    async def weather(ctx: Context) -> str:
        try:
            await completion(ctx, MODEL, HI, response_format=Modelled)
        except AnswerMisfit as misfit:
            return misfit.message
        return "it fits"

    await stage.start(service)
    said = await stage.client.service_call(weather)
    assert "the model's answer is no Modelled" in said
    assert "city" in said
    assert len(outcomes(llm)) == 2


async def test_without_repairs_the_first_misfit_ends_the_call(stage: Stage, llm: ScriptedLLM):
    llm.replace([Turn(text="no json")])
    service = Service("Weather")

    @service.handler()
    async def weather(ctx: Context) -> str:
        return (await completion(ctx, MODEL, HI, response_format=Plain, repairs=0)).text

    await stage.start(service)
    with pytest.raises(TerminalError) as misfit:
        await stage.client.service_call(weather)
    assert (misfit.value.metadata or {})["agentdur_code"] == "AD0103"
    assert (misfit.value.metadata or {})["answer"] == "no json"
    assert outcomes(llm) == ["answered"]


async def test_a_model_that_wants_a_tool_first_is_not_done_yet(stage: Stage, llm: ScriptedLLM):
    """Only the answer is held against the form."""
    llm.replace([Turn(tool_calls=(ToolCall(name="look"),))])
    service = Service("Weather")

    @service.handler()
    async def weather(ctx: Context) -> str:
        return (await completion(ctx, MODEL, HI, response_format=Plain)).tool_calls[0].name

    await stage.start(service)
    assert await stage.client.service_call(weather) == "look"
    assert outcomes(llm) == ["answered"]


@pytest.mark.parametrize("form", [list[int], bytes, int], ids=str)
def test_a_form_no_provider_takes_is_refused_before_anybody_is_asked(form: Any):
    with pytest.raises(BadDefinition, match="response_format"):
        Form(form)


def test_a_description_of_the_providers_own_is_sent_as_it_is():
    assert Form({"type": "json_object"}).sent == {"type": "json_object"}
