"""What was recorded: who was asked what, what the model said, and where the process died.

The process dies while the model thinks about its last answer; a person has agreed to what there was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agentdur.sdk.service import BaseService
from agentdur.testing.scripted_llm import Status, ToolCall, Turn, Usage, When
from tests.released import desks, own_desks
from tests.released.desks import LED, WRITTEN

TEN = Usage(prompt_tokens=6, completion_tokens=4)


@dataclass(frozen=True)
class Story:
    """`asked`: one text after the other; the last one is under way when the process dies. `turns`: what the
    model says, its last answer at the end. `answer`: what comes out, or the part of it that counts. `told`:
    what the model must be told with the last question, from the journal."""

    name: str
    target: tuple[str, str, str | None]
    service: Callable[[], BaseService]
    asked: tuple[str, ...]
    turns: tuple[Turn, ...]
    answer: dict[str, Any]
    told: tuple[str, ...] = ()
    people: int = 0
    needs: tuple[str, tuple[int, ...]] = ("openai", (1,))
    """The framework whose older releases write it in another form."""


def _calls(*wanted: tuple[str, dict[str, Any]], when: When | None = None) -> Turn:
    made = (ToolCall(name=n, arguments=a, id=f"call_{number}") for number, (n, a) in enumerate(wanted))
    return Turn(tool_calls=tuple(made), usage=TEN, when=when)


def _says(text: str, when: When | None = None, usage: Usage | None = TEN, at: int | None = None) -> Turn:
    return Turn(text=text, usage=usage, when=when, at=at)


def _conversation(name: str, service: Callable[[], BaseService], **more: Any) -> Story:
    """Two turns, of which the second one asks for two tools; a person agrees to one."""
    return Story(
        name=name,
        target=more.pop("target", ("Desk", "say", "ada")),
        service=service,
        asked=("hello", "a trip to Oslo"),
        turns=(
            _says("hello"),
            _calls(("weather", {"city": "Oslo"}), ("book", {"city": "Oslo"})),
            _says("It rains, and it is booked."),
        ),
        told=("hello", "a trip to Oslo", "rain in Oslo", "booked Oslo in the rain"),
        people=1,
        **{"answer": {"said": "It rains, and it is booked.", "calls": 2, "tokens": 20}, **more},
    )


def _family(
    name: str, service: Callable[[], BaseService], argument: str, second: str = "writer", **more: Any
) -> Story:
    """A boss asks its writer twice at once, or the second time somebody else."""
    led = When(system=LED)
    return Story(
        name=name,
        target=("Family", "ask", None),
        service=service,
        asked=("go",),
        turns=(
            _says("wet", When(system=WRITTEN, last_user="rain")),
            _says("white", When(system=WRITTEN, last_user="snow")),
            _calls(("writer", {argument: "rain"}), (second, {argument: "snow"}), when=led),
            _says("wet and white", led),
        ),
        answer={"said": "wet and white", "calls": 4, "tokens": 40},
        told=("wet", "white"),
        **more,
    )


STORIES = {
    story.name: story
    for story in (
        _conversation("openai-agents", desks.openai_conversation),
        _conversation("pydantic-ai", desks.pydantic_conversation),
        _conversation("langchain", desks.langchain_conversation),
        _conversation("google-adk", desks.adk_conversation),
        _conversation(
            "session", own_desks.session, target=("Desk", "turn", "ada"),
            answer={"text": "It rains, and it is booked.", "turn": 2, "model_calls": 2},
        ),
        _family("openai-agents-family", desks.openai_family, "input"),
        _family(
            "pydantic-ai-family", desks.pydantic_family, "topic", "scribe",
            needs=("pydantic-ai-slim", (2, 60)),
        ),
        _family("langchain-family", desks.langchain_family, "topic"),
        _family("google-adk-family", desks.adk_family, "request"),
        _family("agent-family", own_desks.own_family, "message"),
        Story(
            name="llm",
            target=("Calls", "ask", None),
            service=own_desks.model_calls,
            asked=("go",),
            turns=(
                _says("streamed", When(last_user="stream"), Usage(prompt_tokens=0, completion_tokens=0)),
                _says('{"good": 3}', When(last_user="judge")),
                _says('{"good": true}', When(last_user="good"), at=1),
                Turn(when=When(model="busy"), text="-", faults=(Status(status=404, times=None),)),
                _says("instead", When(last_user="fall back")),
                _says("the end", When(last_user="last")),
            ),
            answer={"said": ["streamed", True, "instead", "the end"], "calls": 5},
            told=("rain in Oslo",),
        ),
    )
}  # fmt: skip
