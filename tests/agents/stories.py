"""The examples as stories: what each is asked, what its models say, and what comes out.

Whoever runs examples takes them from here: in one process, crashed at every commit, on another server.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from agentdur import App
from agentdur.testing.scripted_llm import ToolCall, Turn, When

os.environ.setdefault("AGENT_MODEL", "openai/scripted")  # read when an example is imported


@dataclass(frozen=True, kw_only=True)
class Story:
    """One call of an example. `model_calls`: answers of models that are paid for, undisturbed."""

    example: str
    service: str
    handler: str
    given: Any
    answer: Any
    turns: Sequence[Turn] = ()
    key: str | None = None
    model_calls: int = 0
    at_most: int = 1
    """How many model calls are under way at once, at most: what a crash may make run again."""
    fresh: bool = False
    """The example builds a provider's client when it is imported, from the environment of that moment."""

    @property
    def app(self) -> App:
        """The example's App."""
        module = pytest.importorskip(f"examples.agents.{self.example}", exc_type=ImportError)
        found = (importlib.reload(module) if self.fresh else module).app
        assert isinstance(found, App)
        return found

    def __str__(self) -> str:
        return f"{self.example}.{self.handler}"


def says(text: str, **when: Any) -> Turn:
    """The model says this where the conversation begins or goes on so."""
    at = when.pop("at", None)
    return Turn(text=text, when=When(**when), at=at)


def calls(*wanted: tuple[str, dict[str, Any]], **when: Any) -> Turn:
    """The model calls tools."""
    tools = tuple(ToolCall(name=name, arguments=given) for name, given in wanted)
    at = when.pop("at", None)
    return Turn(tool_calls=tools, when=When(**when), at=at)


STORIES = [
    Story(
        example="chat", service="support", handler="turn", key="ada", model_calls=2,
        given={"content": "Where is order 7?", "id": "m-1"},
        turns=[
            calls(("order", {"number": 7}), system="Help our customers.", at=0),
            says("It left.", system="Help our customers.", at=1),
        ],
        answer={"id": "m-1", "turn": 1, "status": "completed", "text": "It left.", "model_calls": 2},
    ),
    Story(
        example="chain", service="Chain", handler="write", given="sourdough", model_calls=3,
        turns=[
            says("1. flour 2. water", system="Outline", last_user="sourdough"),
            says("Flour and water, long.", system="Write the article", last_user="1. flour 2. water"),
            says("Flour and water.", system="Shorten", last_user="Flour and water, long."),
        ],
        answer="Flour and water.",
    ),
    Story(
        example="parallel", service="Review", handler="review", given="a - b", model_calls=3, at_most=3,
        turns=[
            says("it subtracts", system="Find bugs."),
            says("none", system="Find security holes."),
            says("fine", system="hard to read"),
        ],
        answer={"correctness": "it subtracts", "security": "none", "style": "fine"},
    ),
    Story(
        example="route", service="HelpDesk", handler="ask", given="I was charged twice", model_calls=2,
        turns=[
            says('{"choice": "billing"}', system="- billing: charges, refunds"),
            says("You get it back.", system="You know bills."),
        ],
        answer="You get it back.",
    ),
    Story(
        example="route", service="HelpDesk", handler="ask", given="Who are you?", model_calls=2,
        turns=[
            says('{"choice": "nobody"}', system="Sort the request.", at=0),
            says('{"choice": "person"}', system="Sort the request.", at=1),
        ],
        answer="A colleague will call you. Your ticket is T-12.",
    ),
    Story(
        example="orchestrator", service="Study", handler="study", given="ferries", model_calls=4, at_most=2,
        turns=[
            says('{"subtasks": ["routes", "batteries"]}', system="Divide"),
            says("many", system="Answer this part", last_user="routes"),
            says("big", system="Answer this part", last_user="batteries"),
            says("Many routes, big batteries.", system="Write one text", last_user='"result":"many"'),
        ],
        answer="Many routes, big batteries.",
    ),
    Story(
        example="evaluator", service="Poems", handler="write", given="the sea", model_calls=4,
        turns=[
            says("waves, waves", system="Write a poem", last_user='"feedback":"longer"'),
            says("waves", system="Write a poem", last_user="the sea"),
            says('{"good": true}', system="Is the poem good?", last_user="waves, waves"),
            says('{"good": false, "feedback": "longer"}', system="Is the poem good?"),
        ],
        answer={"poem": "waves, waves", "good": True, "rounds": 2},
    ),
    Story(
        example="racing", service="Quick", handler="ask", given="capital?", model_calls=1, at_most=2,
        turns=[
            says("Oslo", system="Answer at once."),
            Turn(text="Oslo, I think", when=When(system="Think it over."), delay_ms=60_000),
        ],
        answer={"by": "hare", "answer": "Oslo"},
    ),
    Story(
        example="handoff", service="Reception", handler="ask", given="Cancel 17", model_calls=3,
        turns=[
            calls(("transfer_to_bookings", {}), system="You greet."),
            calls(("cancel_booking", {"number": 17}), system="You change bookings.", at=1),
            says("It is cancelled.", system="You change bookings.", at=2),
        ],
        answer={"by": "bookings", "answer": "It is cancelled."},
    ),
    Story(
        example="handoff", service="Reception", handler="ask", given="This is bad", model_calls=2,
        turns=[
            calls(("transfer_to_complaints", {}), system="You greet."),
            says("I am sorry.", system="You hear complaints.", at=1),
        ],
        answer={"by": "complaints", "answer": "I am sorry."},
    ),
    Story(
        example="agent_as_tool", service="Travel", handler="plan", given="Bergen", model_calls=4, at_most=2,
        turns=[
            calls(("weather", {"message": "w"}), ("food", {"message": "f"}), system="Plan the trip"),
            says("Take boots.", system="Plan the trip", at=1),
            says("rain", system="You know the weather."),
            says("fish", system="You know restaurants."),
        ],
        answer={"plan": "Take boots."},
    ),
    Story(
        example="rollback", service="Trips", handler="book", given={"city": "Bergen", "nights": 2},
        answer=["F-Bergen", "H-Bergen"],
    ),
    Story(
        example="notify_when_ready", service="Report", handler="run", key="r1", given="ferries",
        model_calls=1,
        turns=[says("All about ferries.", system="Write a report.")],
        answer="All about ferries.",
    ),
    Story(
        example="google_adk", service="Concierge", handler="say", key="eve", given="A table in Bergen",
        model_calls=4,
        turns=[
            calls(("transfer_to_agent", {"agent_name": "tables"}), system="You greet", at=0),
            calls(("find_tables", {"city": "Bergen"}), system="You book tables", at=0),
            calls(("book_table", {"restaurant": "Bergen: Cornelius"}), system="You book tables", at=1),
            says("Your reference is T-17.", system="You book tables", at=2),
        ],
        answer="Your reference is T-17.",
    ),
    Story(
        example="langchain_agent", service="Weather", handler="ask", given="umbrella?", model_calls=2,
        fresh=True,
        turns=[
            Turn(tool_calls=(ToolCall(name="forecast", arguments={"city": "Oslo"}),)),
            Turn(text="Yes, take one."),
        ],
        answer="Yes, take one.",
    ),
    Story(
        example="pydantic_ai_agent", service="Support", handler="ask", key="ann", given="Where is it?",
        model_calls=2, fresh=True,
        turns=[
            Turn(
                tool_calls=(
                    ToolCall(name="order", arguments={"number": 7}), ToolCall(name="opening_hours"),
                )
            ),
            Turn(
                tool_calls=(
                    ToolCall(name="final_result", arguments={"text": "On its way.", "escalate": False}),
                )
            ),
        ],
        answer={"text": "On its way.", "escalate": False},
    ),
]  # fmt: skip
