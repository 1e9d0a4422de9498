"""A support agent of Pydantic AI, durable by one line, which remembers what was said. The rest is Pydantic AI
as everybody writes it.

pip install 'agentdur[pydantic-ai]' 'pydantic-ai-slim[openai]'
agentdur dev examples/agents/pydantic_ai_agent.py
curl localhost:8080/Support/ann/ask --json '"Where is my order 7?"'
"""

import os

from pydantic import BaseModel
from pydantic_ai import Agent, RunContext

from agentdur import App, ObjectContext, VirtualObject
from agentdur.integrations.pydantic_ai import Durable, append_messages, load_messages

MODEL = os.environ.get("AGENT_MODEL", "openai/gpt-5-mini").removeprefix("openai/")


class Answer(BaseModel):
    """What the customer gets to see."""

    text: str
    escalate: bool


agent = Agent(
    f"openai-chat:{MODEL}",
    name="support",
    deps_type=str,
    output_type=Answer,
    instructions="You help customers with their orders.",
    capabilities=[Durable()],
)


@agent.tool
async def order(ctx: RunContext[str], number: int) -> str:
    """The state of an order of this customer."""
    return f"order {number} of {ctx.deps} is on its way"


@agent.tool_plain
def opening_hours() -> str:
    """When people can be reached."""
    return "9 to 17"


support = VirtualObject("Support")


@support.handler()
async def ask(ctx: ObjectContext, question: str) -> Answer:
    history = await load_messages(ctx)
    result = await agent.run(question, deps=ctx.key(), message_history=history)
    await append_messages(ctx, result.new_messages())
    return result.output


app = App(services=[support])
