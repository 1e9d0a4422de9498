"""An agent of LangChain, durable by one line. The rest is LangChain as everybody writes it.

pip install 'agentdur[langchain]' langchain-openai
agentdur dev examples/agents/langchain_agent.py
curl localhost:8080/Weather/ask --json '"Do I need an umbrella in Oslo?"'
"""

import os

from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from agentdur import App, Context, Service
from agentdur.integrations.langchain import Durable

MODEL = os.environ.get("AGENT_MODEL", "openai/gpt-5-mini").removeprefix("openai/")


@tool
def forecast(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


agent = create_agent(ChatOpenAI(model=MODEL), [forecast], middleware=[Durable("weather")])
service = Service("Weather")


@service.handler()
async def ask(ctx: Context, question: str) -> str:
    result = await agent.ainvoke({"messages": [{"role": "user", "content": question}]})
    return str(result["messages"][-1].content)


app = App(services=[service])
