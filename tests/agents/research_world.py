"""The research agent in a small world: quick pages, a model with a script, ledgers to count in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agentdur.testing.scripted_llm import LedgerEntry, ScriptedLLM, requests
from examples.agents import research
from examples.agents.demo_world import ANSWER, pages_served, question, script

TURNS = 4
TOOLS = 5


@contextmanager
def research_in(
    monkeypatch: pytest.MonkeyPatch, llm: ScriptedLLM, folder: Path, seconds: dict[str, float]
) -> Iterator[World]:
    """The agent asks `llm`, reads pages of this test alone, and writes its ledger into `folder`."""
    monkeypatch.setattr(research, "MODEL", "openai/scripted")
    with pages_served(seconds) as pages:
        llm.replace([_at_once(turn) for turn in script(pages)])
        yield World(monkeypatch, llm, folder, research.Question(text=question(pages)))


def _at_once(turn: Any) -> dict[str, Any]:
    return {"tool_calls": turn.tool_calls, "text": turn.text}


class World:
    """What the agent is asked, and what its ledgers say since the last `forget`."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, llm: ScriptedLLM, folder: Path, asked: research.Question
    ) -> None:
        self._monkeypatch, self._llm, self._folder = monkeypatch, llm, folder
        self.question = asked
        self._count = self._seen = 0
        self.forget()

    def forget(self) -> None:
        """A new ledger; what was, was."""
        self._count += 1
        self._seen = len(requests(self._llm.ledger()))
        self.path = self._folder / f"tools-{self._count}.jsonl"
        self._monkeypatch.setattr(research, "LEDGER", str(self.path))

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def begun(self) -> Counter[tuple[str, str]]:
        """(tool, what) -> how often its action began."""
        return Counter((line["tool"], line["what"]) for line in self.lines() if line["event"] == "begin")

    def asked(self) -> list[LedgerEntry]:
        """What reached the model."""
        return list(requests(self._llm.ledger()))[self._seen :]

    def turns(self) -> Counter[int | None]:
        """turn -> how many requests for it reached the model."""
        return Counter(entry.turn for entry in self.asked())


def finished(journal: list[dict[str, Any]]) -> tuple[int, set[tuple[str, str]]]:
    """Of a journal as it is shown: how many model turns are answered, and which tool calls have a result."""
    results = {e["completion_id"]: e for e in journal if e["kind"] == "Completion"}
    turns, tools, arguments = 0, set(), {}
    for entry in journal:
        result = results.get(entry.get("completion_id"))
        if entry["kind"] != "Run" or result is None:
            continue
        if entry["name"].startswith("llm:"):
            turns += 1
            for call in result["value"]["message"].get("tool_calls") or ():
                (what,) = json.loads(call["function"]["arguments"]).values()
                arguments[call["id"]] = (call["function"]["name"], what)
        else:
            tools.add(arguments[result["meta"]["tool_call_id"]])
    return turns, tools


__all__ = ["ANSWER", "TOOLS", "TURNS", "World", "finished", "research_in"]
