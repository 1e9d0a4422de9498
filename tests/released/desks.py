"""The agents whose runs were recorded: in each framework one conversation with tools, and one family.

Rules of this file:
1. What a journal refers to (names of services, handlers, agents, tools, what is done in which order) stays as
   it was when the journal was recorded. A new story is a new desk, not another form of an old one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from agents import Agent as OpenAIAgent
from agents import ModelSettings, RunConfig, Runner, function_tool
from google.adk.agents import LlmAgent
from google.adk.models.lite_llm import LiteLlm
from google.adk.tools.agent_tool import AgentTool
from google.adk.tools.function_tool import FunctionTool
from google.genai import types
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from pydantic_ai import Agent, RunContext

from agentdur import Context, ObjectContext, Service, VirtualObject
from agentdur.integrations import google_adk, langchain, openai_agents
from agentdur.llm import Budget, budget
from tests.support.adapters import adapter

pydantic_ai = adapter("pydantic_ai")
LED, WRITTEN = "You lead.", "You write."
DID: Counter[str] = Counter()
"""What tools did to the world."""
SKY = ["rain"]
"""What tools find out there: another thing when a journal is continued than when it was recorded."""

Say = Callable[[ObjectContext, str], Awaitable[str]]
Ask = Callable[[str], Awaitable[str]]


def weather(city: str) -> str:
    """The weather of a city."""
    DID[f"weather {city}"] += 1
    return f"{SKY[0]} in {city}"


async def book(city: str) -> str:
    """Book a trip."""
    DID[f"book {city}"] += 1
    return f"booked {city} in the {SKY[0]}"


def conversation(say: Say) -> VirtualObject:
    """One conversation per key, under a budget that counts."""
    desk = VirtualObject("Desk")

    @desk.handler("say")
    async def handle(ctx: ObjectContext, text: str) -> dict[str, Any]:
        async with budget(ctx, Budget(tokens=1_000)) as account:
            said = await say(ctx, text)
        return {"said": said, "calls": account.spent.calls, "tokens": account.spent.tokens}

    return desk


def family(ask: Ask) -> Service:
    """A boss whose tool is a writer, under a budget that counts what both spend."""
    service = Service("Family")

    @service.handler("ask")
    async def handle(ctx: Context, question: str) -> dict[str, Any]:
        async with budget(ctx, Budget(tokens=1_000)) as account:
            said = await ask(question)
        return {"said": said, "calls": account.spent.calls, "tokens": account.spent.tokens}

    return service


# -- OpenAI Agents SDK


def openai_conversation() -> VirtualObject:
    """Its session is the state of the object."""
    tools: Any = [function_tool(weather), function_tool(book, needs_approval=True)]
    agent: Any = OpenAIAgent(name="helper", instructions=LED, model="scripted", tools=tools)

    async def say(ctx: ObjectContext, text: str) -> str:
        return str((await Runner.run(agent, text, session=openai_agents.ObjectSession())).final_output)

    return conversation(say)


def openai_family() -> Service:
    """It streams."""
    writer: Any = OpenAIAgent(name="writer", instructions=WRITTEN, model="scripted")
    tools: Any = [writer.as_tool(tool_name="writer", tool_description="Writes.")]
    boss: Any = OpenAIAgent(name="boss", instructions=LED, model="scripted", tools=tools)

    async def ask(question: str) -> str:
        settings = RunConfig(model_settings=ModelSettings(max_tokens=100))
        result = Runner.run_streamed(boss, question, run_config=settings)
        async for _ in result.stream_events():
            pass
        return str(result.final_output)

    return family(ask)


# -- Pydantic AI


def pydantic_conversation() -> VirtualObject:
    """Its messages are in the state of the object."""
    durable: Any = pydantic_ai.Durable()
    agent = Agent("openai-chat:scripted", name="helper", instructions=LED, capabilities=[durable])
    agent.tool_plain(weather)
    agent.tool_plain(requires_approval=True)(book)

    async def say(ctx: ObjectContext, text: str) -> str:
        history = await pydantic_ai.load_messages(ctx)
        result = await agent.run(text, message_history=history)
        await pydantic_ai.append_messages(ctx, result.new_messages())
        return result.output

    return conversation(say)


def pydantic_family() -> Service:
    """It streams; the writer is asked in the handler, the scribe within the step of a tool."""
    durable, streaming = pydantic_ai.Durable[None](), pydantic_ai.Durable[None](stream=True)
    writer = Agent("openai-chat:scripted", name="writer", instructions=WRITTEN, capabilities=[durable])
    boss = Agent("openai-chat:scripted", name="boss", instructions=LED, capabilities=[streaming])

    @boss.tool(name="writer", metadata={"agentdur": False})
    async def write(ctx: RunContext[None], topic: str) -> str:
        return (await writer.run(topic, usage=ctx.usage)).output

    @boss.tool(name="scribe")
    async def scribe(ctx: RunContext[None], topic: str) -> str:
        DID[f"scribe {topic}"] += 1
        return (await writer.run(topic, usage=ctx.usage)).output

    async def ask(question: str) -> str:
        return (await boss.run(question)).output

    return family(ask)


# -- LangChain


def langchain_conversation() -> VirtualObject:
    """Its messages are in the state of the object; a person reviews one of the tools."""
    agent: Any = create_agent(
        ChatOpenAI(model="scripted"),
        [tool(weather), tool(book)],
        system_prompt=LED,
        middleware=[HumanInTheLoopMiddleware(interrupt_on={"book": True}), langchain.Durable("helper")],
        checkpointer=InMemorySaver(),
    )

    async def say(ctx: ObjectContext, text: str) -> str:
        known = [*await langchain.load_messages(ctx), HumanMessage(text)]
        config = {"configurable": {"thread_id": ctx.request().id}}
        result = await langchain.answer_interrupts(agent, {"messages": known}, config)
        await langchain.append_messages(ctx, result["messages"][len(known) - 1 :])
        return str(result["messages"][-1].content)

    return conversation(say)


def langchain_family() -> Service:
    """An agent in a tool that runs in the handler."""
    model = ChatOpenAI(model="scripted")
    inner: Any = create_agent(model, [], system_prompt=WRITTEN, middleware=[langchain.Durable("writer")])

    @tool
    async def writer(topic: str) -> str:
        """Write."""
        return await _invoked(inner, topic)

    durable = langchain.Durable("boss", inline=["writer"])
    outer = create_agent(model, [writer], system_prompt=LED, middleware=[durable])

    async def ask(question: str) -> str:
        return await _invoked(outer, question)

    return family(ask)


async def _invoked(agent: Any, text: str) -> str:
    result = await agent.ainvoke({"messages": [{"role": "user", "content": text}]})
    return str(result["messages"][-1].content)


# -- Google ADK


def adk_conversation() -> VirtualObject:
    """Its session is in the state of the object; a person confirms one of the tools."""
    tools: Any = [weather, FunctionTool(book, require_confirmation=True)]
    agent = LlmAgent(name="helper", model=_lite(), instruction=LED, tools=tools)
    runner = google_adk.DurableRunner(app_name="app", agent=agent)

    async def say(ctx: ObjectContext, text: str) -> str:
        return await _run(runner, text)

    return conversation(say)


def adk_family() -> Service:
    """An agent as a tool."""
    writer = LlmAgent(name="writer", model=_lite(), instruction=WRITTEN)
    boss = LlmAgent(name="boss", model=_lite(), instruction=LED, tools=[AgentTool(writer)])
    runner = google_adk.DurableRunner(app_name="app", agent=boss)

    async def ask(question: str) -> str:
        return await _run(runner, question)

    return family(ask)


def _lite() -> LiteLlm:
    return LiteLlm(model="openai/scripted")


async def _run(runner: Any, text: str) -> str:
    said = ""
    message = types.Content(role="user", parts=[types.Part(text=text)])
    async for event in runner.run_async(user_id="u", session_id="s", new_message=message):
        if not event.partial and event.content is not None:
            said = "".join(part.text or "" for part in event.content.parts or ()) or said
    return said
