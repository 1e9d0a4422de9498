"""The same agents in four frameworks: a helper with a tool, and a boss with a writer for a tool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from agents import Agent as OpenAIAgent
from agents import ModelSettings, RunConfig, Runner, function_tool
from google.adk.agents import LlmAgent
from google.adk.models.lite_llm import LiteLlm
from google.adk.tools.agent_tool import AgentTool
from google.genai import types
from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic_ai import Agent, RunContext

from agentdur import Context, Service
from agentdur.integrations import google_adk, langchain, openai_agents
from agentdur.llm import Budget, BudgetExceeded, budget
from agentdur.sdk.steps import RunOptions
from agentdur.testing.scripted_llm import ScriptedLLM, ToolCall, Turn, Usage, When, requests
from tests.support.adapters import adapter

pydantic_ai = adapter("pydantic_ai")
Ask = Callable[[str], Awaitable[str]]
Options = RunOptions[Any] | None
DID: Counter[str] = Counter()
"""What tools did to the world."""
MODEL, OTHER = "openai/scripted", "openai/other"
TEN = Usage(prompt_tokens=6, completion_tokens=4)
LED, WRITTEN = "You lead.", "You write."


def weather(city: str) -> str:
    """The weather of a city."""
    DID[city] += 1
    return f"rain in {city}"


@dataclass(frozen=True)
class Desk:
    """One framework. `helper`: an agent with the tool `weather`; `family`: one whose tool `writer` is an
    agent that is asked by `argument`."""

    name: str
    helper: Callable[[Options], Ask]
    family: Callable[[], Ask]
    argument: str


def _openai_helper(options: Options) -> Ask:
    agent: Any = OpenAIAgent(
        name="helper", instructions=LED, model="scripted", tools=[function_tool(weather)]
    )
    how = openai_agents.Durability(model_options=options)

    async def ask(question: str) -> str:
        result = await openai_agents.DurableRunner.run(agent, question, durability=how)
        return str(result.final_output)

    return ask


def _openai_family() -> Ask:
    writer: Any = OpenAIAgent(name="writer", instructions=WRITTEN, model="scripted")
    tools: Any = [writer.as_tool(tool_name="writer", tool_description="Writes.")]
    boss: Any = OpenAIAgent(name="boss", instructions=LED, model="scripted", tools=tools)

    async def ask(question: str) -> str:
        settings = RunConfig(model_settings=ModelSettings(max_tokens=4))
        return str((await Runner.run(boss, question, run_config=settings)).final_output)

    return ask


def _pydantic_helper(options: Options) -> Ask:
    capability: Any = pydantic_ai.Durable(model_options=options)
    agent = Agent("openai-chat:scripted", name="helper", instructions=LED, capabilities=[capability])
    agent.tool_plain(weather)

    async def ask(question: str) -> str:
        return (await agent.run(question)).output

    return ask


def pydantic_family(inline: bool = True, capability: Any = None) -> Ask:
    """`inline` is false where the writer runs within the step of its tool."""
    own: Any = capability or pydantic_ai.Durable()
    durable: Any = pydantic_ai.Durable()
    writer = Agent("openai-chat:scripted", name="writer", instructions=WRITTEN, capabilities=[own])
    boss = Agent("openai-chat:scripted", name="boss", instructions=LED, capabilities=[durable])

    @boss.tool(name="writer", metadata={"agentdur": False} if inline else None)
    async def write(ctx: RunContext, topic: str) -> str:
        DID[topic] += 1
        return (await writer.run(topic, usage=ctx.usage)).output

    async def ask(question: str) -> str:
        return (await boss.run(question)).output

    return ask


def _langchain_helper(options: Options) -> Ask:
    agent: Any = create_agent(
        ChatOpenAI(model="scripted"),
        [tool(weather)],
        system_prompt=LED,
        middleware=[langchain.Durable("helper", model_options=options)],
    )
    return _langchain_ask(agent)


def _langchain_family() -> Ask:
    model = ChatOpenAI(model="scripted")
    inner: Any = create_agent(model, [], system_prompt=WRITTEN, middleware=[langchain.Durable("writer")])

    @tool
    async def writer(topic: str) -> str:
        """Write."""
        return await _langchain_ask(inner)(topic)

    outer = langchain.Durable("boss", inline=["writer"])
    return _langchain_ask(create_agent(model, [writer], system_prompt=LED, middleware=[outer]))


def _langchain_ask(agent: Any) -> Ask:
    async def ask(question: str) -> str:
        result = await agent.ainvoke({"messages": [{"role": "user", "content": question}]})
        return str(result["messages"][-1].content)

    return ask


def _adk_helper(options: Options) -> Ask:
    agent = LlmAgent(name="helper", model=LiteLlm(model=MODEL), instruction=LED, tools=[weather])
    return adk_ask(agent, google_adk.Durability(model_options=options))


def _adk_family() -> Ask:
    writer = LlmAgent(name="writer", model=LiteLlm(model=MODEL), instruction=WRITTEN)
    return adk_ask(
        LlmAgent(name="boss", model=LiteLlm(model=MODEL), instruction=LED, tools=[AgentTool(writer)])
    )


def adk_ask(agent: Any, how: google_adk.Durability | None = None, **more: Any) -> Ask:
    """The last thing that this agent says; `more` is given to its runs."""
    runner = google_adk.DurableRunner(app_name="app", agent=agent, durability=how)

    async def ask(question: str) -> str:
        said = ""
        message = types.Content(role="user", parts=[types.Part(text=question)])
        async for event in runner.run_async(user_id="u", session_id="s", new_message=message, **more):
            if not event.partial and event.content is not None:
                said = "".join(part.text or "" for part in event.content.parts or ()) or said
        return said

    return ask


DESKS = [
    Desk("openai-agents", _openai_helper, _openai_family, "input"),
    Desk("pydantic-ai", _pydantic_helper, pydantic_family, "topic"),
    Desk("langchain", _langchain_helper, _langchain_family, "topic"),
    Desk("google-adk", _adk_helper, _adk_family, "request"),
]


def calls(*wanted: tuple[str, dict[str, Any]], **more: Any) -> Turn:
    """The model calls tools."""
    made = (ToolCall(name=n, arguments=a, id=f"call_{number}") for number, (n, a) in enumerate(wanted))
    return Turn(tool_calls=tuple(made), usage=TEN, **more)


def says(text: str, **when: Any) -> Turn:
    """The model says this."""
    at = when.pop("at", None)
    return Turn(text=text, usage=TEN, when=When(**when) if when else None, at=at)


TRIP = [calls(("weather", {"city": "Oslo"})), says("Rain.")]
"""What the helper's model says: two answers of ten tokens each."""
CHEAP = [calls(("weather", {"city": "Oslo"}), when=When(model="other")), says("cheap", model="other")]


def led(desk: Desk) -> list[Turn]:
    """What the models of a family say: four answers."""
    asked = [("writer", {desk.argument: "rain"}), ("writer", {desk.argument: "snow"})]
    return [
        calls(*asked, when=When(system=LED)),
        says("rain and snow", system=LED),
        says("wet", system=WRITTEN, last_user="rain"),
        says("white", system=WRITTEN, last_user="snow"),
    ]


def within(ask: Ask, limit: Budget, key: str = "") -> Service:
    """A handler that asks under a budget, and tells how far it came and what that cost."""
    service = Service("Desk")

    @service.handler("ask")
    async def handle(ctx: Context, question: str) -> dict[str, Any]:
        async with budget(ctx, limit, key=key) as account:
            try:
                said = await ask(question)
            except BudgetExceeded as exceeded:
                said = f"{exceeded.facts['unit']}: {exceeded.facts['spent']} of {exceeded.facts['limit']}"
        spent = account.spent
        return {"said": said, "calls": spent.calls, "tokens": spent.tokens, "cost": round(spent.cost, 6)}

    return service


def models(llm: ScriptedLLM) -> list[str]:
    """Who was asked, in order."""
    return [entry.model for entry in requests(llm.ledger())]
