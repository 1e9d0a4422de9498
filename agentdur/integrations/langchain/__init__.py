"""LangChain agents and LangGraph graphs, durable: one line, and the rest of their code stays as it is.

    agent = create_agent(model, tools, middleware=[Durable("support")])

    graph = builder.compile()  # whose nodes call durable_model(model), or functions with @agentdur.step

Not covered: synchronous runs (`invoke`, `stream`) inside a handler, which are refused; spans of LangSmith,
which a replay sends again.
"""

from agentdur.integrations.langchain.history import append_messages, load_messages
from agentdur.integrations.langchain.interrupts import answer_interrupts
from agentdur.integrations.langchain.middleware import Durable
from agentdur.integrations.langchain.model import DurableChatModel, durable_model

__all__ = [
    "Durable", "DurableChatModel", "answer_interrupts", "append_messages", "durable_model", "load_messages",
]  # fmt: skip
