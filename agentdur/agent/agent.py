"""What an agent is: data, checked where it is declared."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from agentdur.agent.result import AgentRun
from agentdur.core.errors import BadDefinition
from agentdur.sdk.context import Context
from agentdur.tools import Tool
from agentdur.tools.schema import NAME

TURNS_MAX = 20
"""Model calls in one run, hand-overs included, unless the agent says otherwise."""
HANDOFF = "transfer_to_"
"""How the tool is called by which a model hands over; the other agent's name follows."""
_NAME_LENGTH_MAX = 64 - len(HANDOFF)


class Remote(Protocol):
    """An agent that runs elsewhere and may be handed a conversation."""

    @property
    def name(self) -> str:
        """What the model calls it."""

    @property
    def description(self) -> str:
        """What the model is told it is good for."""

    async def go_on(self, ctx: Context, messages: Sequence[Mapping[str, Any]]) -> AgentRun:
        """Answer the conversation."""


Instructions: TypeAlias = str | Callable[[], str | Awaitable[str]]
Target: TypeAlias = "Agent | Remote"
Targets: TypeAlias = Sequence[Target] | Callable[[], Sequence[Target]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Agent:
    """A model with a task.

    `name` is part of the journal (model steps are named `llm:<name>`): it must not change under running
    invocations, all else may. `instructions`: the system message, or a function that makes it.
    `handoffs`: who may go on with the conversation; a function where agents hand over to each other in
    circles. `output`: the type of the answer (pydantic model, dataclass, TypedDict); None means text.
    `turns_max`: model calls in one run. `settings`: LiteLLM's (temperature, api_base, …) and those of
    `completion` (timeout, options, …). `description`: told to agents that may call this one, or hand over
    to it.

    BadDefinition for what no model could be told.
    """

    name: str
    model: str
    instructions: Instructions = ""
    tools: Sequence[Tool] = ()
    handoffs: Targets = ()
    description: str = ""
    output: Any = None
    turns_max: int = TURNS_MAX
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.turns_max < 1:
            raise BadDefinition(f"agent '{self.name}': turns_max is at least 1, not {self.turns_max}")
        names = [tool.name for tool in self.tools]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise BadDefinition(f"agent '{self.name}': two tools are named {', '.join(sorted(twice))}")

    def targets(self) -> dict[str, Target]:
        """Who it may hand over to, by the name of the tool that does it."""
        found = self.handoffs() if callable(self.handoffs) else self.handoffs
        return {HANDOFF + target.name: target for target in found}

    async def system(self) -> str:
        """The system message of a turn; empty when there is none."""
        if isinstance(self.instructions, str):
            return self.instructions
        made = self.instructions()
        return await made if inspect.isawaitable(made) else made


def check_name(name: str) -> None:
    """An agent's name is part of a tool's name: letters, digits, _ and -."""
    if not NAME.fullmatch(name) or len(name) > _NAME_LENGTH_MAX:
        raise BadDefinition(
            f"'{name}' is no name for an agent: letters, digits, _ and -, at most {_NAME_LENGTH_MAX}"
        )


def handoff_spec(name: str, target: Target) -> dict[str, Any]:
    """The tool by which a model hands over, in OpenAI's shape."""
    about = target.description or f"Let {target.name} go on with this conversation."
    reason = {"type": "string", "description": "why, in a few words"}
    parameters = {"type": "object", "properties": {"reason": reason}, "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": about, "parameters": parameters}}
