"""What comes out of an agent's run."""

from __future__ import annotations

from typing import Any

import msgspec

from agentdur.llm import Usage


class AgentRun(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a run.

    `output`: the answer, of the agent's output type, else text. `messages`: what was added to the
    conversation, in OpenAI's shape, ready to be appended to it. `agent`: who answered. `usage`, `cost` (US
    dollars, None when no price is known): of all model calls of the run, those of agents it called as tools
    included; `turns`: its own model calls. `finish_reason`: why the last of them ended, in OpenAI's words.
    """

    output: Any
    text: str
    messages: list[dict[str, Any]]
    agent: str
    turns: int
    usage: Usage = Usage()
    cost: float | None = None
    finish_reason: str = "stop"
