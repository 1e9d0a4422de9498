"""Tools: described by their code, run as steps, in parallel, and told to the model when they fail."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import timedelta
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from agentdur import Context, RunOptions, Service, TerminalError, current_context
from agentdur.core.errors import BadDefinition
from agentdur.llm import ToolCall
from agentdur.tools import Tool, ToolError, run_tools, tool
from tests.support.stage import Ledger, Stage, until

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)


class Place(BaseModel):
    """Where."""

    city: str
    country: str = "NO"


@tool
async def weather(place: Place, unit: Literal["celsius", "kelvin"] = "celsius", days: int = 1) -> str:
    """The weather of a place,
    for some days.

    Args:
        place: where
        unit: of the temperatures,
            which are rounded
        days (int): how many

    Returns:
        words
    """
    return f"{place.city} {unit} {days}"


def test_a_tool_describes_itself_by_its_annotations_and_its_docstring():
    about = weather.spec["function"]
    assert weather.spec["type"] == "function"
    assert about["name"] == "weather"
    assert about["description"] == "The weather of a place,\nfor some days."
    parameters = about["parameters"]
    assert parameters["required"] == ["place"]
    assert parameters["properties"]["unit"]["enum"] == ["celsius", "kelvin"]
    assert parameters["properties"]["unit"]["description"] == "of the temperatures, which are rounded"
    assert parameters["properties"]["days"] == {"default": 1, "description": "how many", "type": "integer"}
    assert parameters["additionalProperties"] is False
    assert "title" not in parameters


def test_a_description_in_the_annotation_stays():
    @tool(name="find-it", description="Finds.")
    def find(what: Annotated[str, Field(description="the thing", min_length=2)]) -> str:
        return what

    assert (find.name, find.description) == ("find-it", "Finds.")
    assert find.schema["properties"]["what"] == {"description": "the thing", "minLength": 2, "type": "string"}


@IN_MEMORY
async def test_a_parameter_may_have_any_name(stage: Stage):
    @tool
    def odd(json: str, schema: int, model_name: str, _x: float = 1.5, copy: bool = False) -> str:
        """Odd names.

        Args:
            _x: hidden
        """
        return f"{json} {schema} {model_name} {_x} {copy}"

    assert list(odd.schema["properties"]) == ["json", "schema", "model_name", "_x", "copy"]
    assert odd.schema["properties"]["_x"]["description"] == "hidden"
    fine = {"json": "j", "schema": 1, "model_name": "m", "copy": True}
    right, wrong = await told(stage, [odd], calls(("odd", fine), ("odd", {**fine, "schema": "x"})))
    assert right == "j 1 m 1.5 True"
    assert "schema: Input should be a valid integer" in wrong


async def test_calling_a_tool_calls_the_function():
    assert await weather(Place(city="Oslo")) == "Oslo celsius 1"


def _no_annotation(x):  # type: ignore[no-untyped-def]  # that is what the test is about
    return x


def _unknown_annotation(x: Nowhere) -> str:  # type: ignore[name-defined]  # noqa: F821  # so is this
    return x


def _positional(x: str, /) -> str:
    return x


def _variable(*xs: str) -> str:
    return str(xs)


def _unreadable(x: threading.Thread) -> str:
    return str(x)


@pytest.mark.parametrize("wrong", [_no_annotation, _unknown_annotation, _positional, _variable, _unreadable])
def test_what_a_model_cannot_call_is_refused_where_it_is_declared(wrong: Any):
    with pytest.raises(BadDefinition, match=wrong.__name__):
        tool(wrong)


def test_a_name_no_provider_takes_is_refused():
    with pytest.raises(BadDefinition, match="no name for a tool"):
        tool(name="look it up")(lambda: "")


def test_an_inline_tool_is_async():
    with pytest.raises(BadDefinition, match="async"):
        tool(inline=True)(_positional)


def calls(*wanted: tuple[str, Any]) -> list[ToolCall]:
    return [
        ToolCall(id=f"call_{n}", name=name, arguments=given if isinstance(given, str) else json.dumps(given))
        for n, (name, given) in enumerate(wanted)
    ]


def agent(tools: list[Tool], wanted: list[ToolCall]) -> Any:
    """A handler that runs these calls and answers what the model would be told."""
    service = Service("Agent")

    @service.handler()
    async def run(ctx: Context) -> list[dict[str, Any]]:
        return await run_tools(ctx, wanted, tools)

    return run, service


async def told(stage: Stage, tools: list[Tool], wanted: list[ToolCall]) -> list[str]:
    run, service = agent(tools, wanted)
    await stage.start(service)
    return [message["content"] for message in await stage.client.service_call(run)]


@IN_MEMORY
async def test_answers_come_in_the_order_of_the_model_whoever_was_first(stage: Stage):
    first_may_end = asyncio.Event()

    @tool
    async def slow() -> str:
        await first_may_end.wait()
        return "slow"

    @tool
    def fast(n: int) -> dict[str, int]:
        if n == 2:
            loop.call_soon_threadsafe(first_may_end.set)
        return {"n": n}

    loop = asyncio.get_running_loop()
    run, service = agent([slow, fast], calls(("slow", {}), ("fast", {"n": 1}), ("fast", {"n": 2})))
    await stage.start(service)
    assert await stage.client.service_call(run) == [
        {"role": "tool", "tool_call_id": "call_0", "content": "slow"},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"n":1}'},
        {"role": "tool", "tool_call_id": "call_2", "content": '{"n":2}'},
    ]


@IN_MEMORY
async def test_calls_run_at_the_same_time_async_and_in_threads(stage: Stage):
    """Each call waits at a barrier for all others: one after another they would wait for ever."""
    parties = asyncio.Barrier(2)
    threads = threading.Barrier(2, timeout=10)

    @tool
    async def meet(n: int) -> int:
        async with asyncio.timeout(10):
            await parties.wait()
        return n

    @tool
    def meet_in_thread(n: int) -> int:
        threads.wait()
        return n

    wanted = [(name, {"n": n}) for name in ("meet", "meet_in_thread") for n in (1, 2)]
    assert await told(stage, [meet, meet_in_thread], calls(*wanted)) == ["1", "2", "1", "2"]


@IN_MEMORY
@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (("typo", {}), "Error: there is no tool 'typo'. The tools are: weather."),
        (("weather", "{broken"), "Error: these arguments do not fit. Invalid JSON"),
        (("weather", ""), "place: Field required"),
        (("weather", {"place": {"city": 3}}), "place.city: Input should be a valid string"),
        (
            ("weather", {"place": {"city": "Oslo"}, "planet": "Mars"}),
            "planet: Extra inputs are not permitted",
        ),
        (("weather", [1]), "Input should be an object"),
    ],
)
async def test_what_the_model_did_wrong_is_told_to_the_model(
    stage: Stage, call: tuple[str, Any], answer: str
):
    """And the calls beside it are run."""
    fine = ("weather", {"place": {"city": "Oslo"}})
    wrong, right = await told(stage, [weather], calls(call, fine))
    assert answer in wrong
    assert right == "Oslo celsius 1"


QUICK: RunOptions[Any] = RunOptions(max_attempts=3, initial_retry_interval=timedelta(milliseconds=1))


async def test_a_failing_tool_is_retried_and_then_the_model_is_told(stage: Stage):
    """Three tries; the call beside it, which succeeds, runs once."""
    ledger = Ledger()

    @tool(options=QUICK)
    async def broken() -> str:
        ledger.write("broken")
        raise ValueError("no route to the sea")

    @tool
    async def fine() -> str:
        return ledger.write("fine")

    answers = await told(stage, [broken, fine], calls(("broken", {}), ("fine", {})))
    assert answers == ["Error: ValueError('no route to the sea')", "fine"]
    assert ledger.counts == {"broken": 3, "fine": 1}


@IN_MEMORY
async def test_a_tool_that_recovers_is_never_mentioned(stage: Stage):
    ledger = Ledger()

    @tool(options=QUICK)
    def moody() -> str:
        ledger.write("try")
        if ledger.count("try") < 3:
            raise OSError("not now")
        return "well"

    assert await told(stage, [moody], calls(("moody", {}))) == ["well"]


@IN_MEMORY
async def test_a_tool_error_is_told_at_once_in_its_own_words(stage: Stage):
    ledger = Ledger()

    @tool
    def picky() -> str:
        ledger.write("try")
        raise ToolError("only on Sundays")

    assert await told(stage, [picky], calls(("picky", {}))) == ["Error: only on Sundays"]
    assert ledger.count("try") == 1


async def test_a_terminal_error_of_a_tool_ends_the_invocation_after_its_siblings(stage: Stage):
    ledger = Ledger()
    gate = asyncio.Event()

    @tool
    async def fatal() -> str:
        asyncio.get_running_loop().call_later(0.01, gate.set)
        raise TerminalError("the account is closed", 402, {"account": "7"})

    @tool
    async def sibling() -> str:
        await gate.wait()
        return ledger.write("sibling")

    with pytest.raises(TerminalError) as ended:
        await told(stage, [fatal, sibling], calls(("fatal", {}), ("sibling", {})))
    assert (ended.value.message, ended.value.status_code) == ("the account is closed", 402)
    assert ended.value.metadata == {"account": "7"}
    assert ledger.count("sibling") == 1


@IN_MEMORY
@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_result_that_has_no_text_is_told_as_the_tool_s_failure(stage: Stage, idempotent: bool):
    """Also of a tool that may not run twice: it has run, and nobody is asked what became of it."""
    ledger = Ledger()

    @tool(idempotent=idempotent)
    def opaque() -> Any:
        ledger.write("ran")
        return threading.Lock()

    (answer,) = await told(stage, [opaque], calls(("opaque", {})))
    assert "AD0032" in answer
    assert ledger.count("ran") == 1


@IN_MEMORY
async def test_two_tools_of_one_name_are_refused(stage: Stage):
    run, service = agent([weather, weather], calls())
    await stage.start(service)
    sent = await stage.client.service_send(run)
    shown = await stage.until_status(sent.invocation_id, "backing-off")
    assert "two tools have the same name among weather, weather" in shown["last_failure"]["message"]


async def test_a_cancellation_is_not_told_to_the_model(stage: Stage):
    """It stops the tools and ends the invocation."""
    ledger = Ledger()

    @tool
    async def endless() -> str:
        ledger.write("begun")
        try:
            await asyncio.sleep(3600)
        finally:
            ledger.write("stopped")
        return "never"

    run, service = agent([endless], calls(("endless", {}), ("endless", {})))
    await stage.start(service)
    sent = await stage.client.service_send(run)
    await until(lambda: ledger.count("begun") == 2, "both tools")
    await stage.engine.operate("cancel", sent.invocation_id)
    with pytest.raises(TerminalError) as ended:
        await stage.client.attach(sent.invocation_id)
    assert ended.value.status_code == 409
    assert ledger.count("stopped") == 2


async def test_after_a_crash_only_the_tool_that_was_running_runs_again_under_the_same_key(stage: Stage):
    """The one that was overtaken is the one that runs again, though it was asked for first."""
    keys = Ledger()
    gate = asyncio.Event()

    @tool
    async def slow() -> str:
        keys.write(f"slow {current_context().idempotency_key}")
        await gate.wait()
        return "slow"

    @tool
    def fast() -> str:
        keys.write(f"fast {current_context().idempotency_key}")
        return "fast"

    run, service = agent([slow, fast], calls(("slow", {}), ("fast", {})))
    await stage.start(service)
    sent = await stage.client.service_send(run)
    await until(lambda: len(stage.journal(sent.invocation_id)) == 4, "the fast one in the journal")
    await stage.restart()
    gate.set()
    await stage.until_status(sent.invocation_id, "completed")
    (slow_key, times), (fast_key, once) = sorted(keys.counts.items(), reverse=True)
    assert (times, once) == (2, 1)
    assert slow_key.split()[1] != fast_key.split()[1]


async def test_an_inline_tool_has_steps_of_its_own(stage: Stage):
    """It uses the context, and after a crash its first step is not run again."""
    ledger = Ledger()
    gate = asyncio.Event()

    @tool(inline=True)
    async def two_steps(word: str) -> str:
        ctx = current_context()
        one = await ctx.run("one", ledger.write, f"one {word}")
        await ctx.run("two", gate.wait)
        return one

    run, service = agent([two_steps], calls(("two_steps", {"word": "a"}), ("two_steps", {"word": "b"})))
    await stage.start(service)
    sent = await stage.client.service_send(run)
    await until(lambda: len(stage.journal(sent.invocation_id)) == 7, "both first steps")
    await stage.restart()
    gate.set()
    shown = await stage.until_status(sent.invocation_id, "completed")
    assert [message["content"] for message in shown["output"]] == ["one a", "one b"]
    assert ledger.counts == {"one a": 1, "one b": 1}


@IN_MEMORY
async def test_what_a_tool_was_is_noted_with_its_step(stage: Stage):
    run, service = agent([weather], calls(("weather", {"place": {"city": "Oslo"}})))
    await stage.start(service)
    sent = await stage.client.service_send(run)
    shown = await stage.until_status(sent.invocation_id, "completed")
    (step,) = [e for e in shown["journal"] if e["kind"] == "Run"]
    assert (step["name"], step["branch"]) == ("tool:weather", "tool:call_0")
    (done,) = [e for e in shown["journal"] if e["kind"] == "Completion"]
    assert done["meta"] == {"tool": "weather", "tool_call_id": "call_0"}
