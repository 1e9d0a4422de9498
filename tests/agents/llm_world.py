"""What the stories of model calls share: the model's name, a question, a look at what the server saw."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from agentdur.core import journal as j
from agentdur.sdk.steps import RunOptions
from agentdur.testing.scripted_llm import ScriptedLLM, requests
from tests.support.stage import Stage

MODEL = "openai/scripted"
OTHER = "openai/other"
HI = [{"role": "user", "content": "hi"}]
IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
"""The store has no part in the story."""
TWICE: RunOptions[Any] = RunOptions(max_attempts=2, initial_retry_interval=timedelta(milliseconds=1))


def outcomes(llm: ScriptedLLM) -> list[str | None]:
    """What became of each request."""
    return [entry.outcome for entry in requests(llm.ledger())]


def models(llm: ScriptedLLM) -> list[str]:
    """Who was asked, in order."""
    return [entry.model for entry in requests(llm.ledger())]


def steps(stage: Stage, invocation: str) -> list[tuple[str, str]]:
    """(name, what came of it) of each step in the journal: `value` or the failure's message."""
    entries = [entry for _, entry in stage.journal(invocation)]
    done = {entry.id: entry.outcome for entry in entries if isinstance(entry, j.Completion)}
    found = []
    for entry in entries:
        if isinstance(entry, j.Run):
            outcome = done.get(entry.completion)
            said = "open" if outcome is None else "value"
            found.append((entry.name, outcome.message if isinstance(outcome, j.Failure) else said))
    return found


def metas(shown: dict[str, Any]) -> list[dict[str, Any]]:
    """The notes of the model steps, in the order in which they were answered."""
    return [e["meta"] for e in shown["journal"] if e["kind"] == "Completion" and "model" in e.get("meta", {})]
