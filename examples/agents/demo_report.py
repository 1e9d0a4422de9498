"""What happened, from three witnesses that do not know each other: the journal as it was on disk when the
process was killed and as it is now, the ledger the tools wrote, and the ledger of the model's server."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentdur.testing.scripted_llm import LedgerEntry, requests

Fate = Literal["finished", "running", "later"]
WIDTH = 80


@dataclass
class Step:
    """One step of the agent. `fate`: what the file said of it at the moment of the kill."""

    kind: Literal["model", "tool"]
    title: str
    detail: str
    begun_ms: int
    ended_ms: int
    fate: Fate
    ran: list[int] = field(default_factory=lambda: [0, 0])
    """How often its action began in the first and in the second process; -1: nobody can tell."""

    @property
    def key(self) -> tuple[str, str]:
        """Steps that look alike to the ledgers."""
        return (self.title, self.detail)

    @property
    def short(self) -> str:
        """The detail, of a page only its name."""
        return self.detail.rpartition("/")[2] if self.detail.startswith("http") else self.detail


@dataclass
class Story:
    """Everything the witnesses said."""

    before: list[dict[str, Any]]
    after: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    model: Sequence[LedgerEntry] | None
    pids: tuple[int, int]
    asked_ms: int
    killed_ms: int
    ready_ms: int
    answered_ms: int
    answer: str
    steps: list[Step] = field(default_factory=list)


def steps_of(story: Story) -> list[Step]:
    """The steps in the order of the journal, each with its fate and with how often it ran."""
    at_kill = {e["completion_id"] for e in story.before if e["kind"] == "Completion"}
    begun_then = {e["completion_id"] for e in story.before if e["kind"] == "Run"}
    results = {e["completion_id"]: e for e in story.after if e["kind"] == "Completion"}
    arguments = _arguments(results.values())
    begins = Counter(
        (line["pid"], line["tool"], line["what"]) for line in story.tools if line["event"] == "begin"
    )
    paid = _paid(story)
    found: list[Step] = []
    turns = 0
    for entry in story.after:
        number = entry.get("completion_id")
        if entry["kind"] != "Run" or number not in results:
            continue
        fate: Fate = "finished" if number in at_kill else "running" if number in begun_then else "later"
        meta = results[number].get("meta") or {}
        times = (entry["ms"], results[number]["ms"], fate)
        if entry["name"].startswith("tool:"):
            what = arguments.get(str(meta.get("tool_call_id")), "")
            step = Step("tool", meta.get("tool", entry["name"]), what, *times)
            step.ran = [begins[pid, step.title, what] for pid in story.pids]
        else:
            turns += 1
            step = Step("model", f"model turn {turns}", _tokens(meta), *times)
            step.ran = [-1, -1] if paid is None else [paid[turns - 1, 0], paid[turns - 1, 1]]
        found.append(step)
    return found


def _arguments(results: Any) -> dict[str, str]:
    """tool-call id -> its one argument, from the journaled answers of the model."""
    found: dict[str, str] = {}
    for result in results:
        value = result.get("value")
        message = value.get("message") if isinstance(value, dict) else None
        for call in (message or {}).get("tool_calls") or ():
            given = json.loads(call["function"]["arguments"])
            found[call["id"]] = str(next(iter(given.values()), ""))
    return found


def _paid(story: Story) -> Counter[tuple[int, int]] | None:
    """(turn, process) -> requests that reached the model's server."""
    if story.model is None:
        return None
    return Counter(
        (entry.turn if entry.turn is not None else -1, int(entry.time_ms > story.killed_ms))
        for entry in requests(story.model)
    )


def _tokens(meta: dict[str, Any]) -> str:
    cost = f", ${meta['cost']:.4f}" if meta.get("cost") else ""
    return f"{meta.get('prompt_tokens', 0)} + {meta.get('completion_tokens', 0)} tokens{cost}"


def verdicts(story: Story) -> list[tuple[bool, str]]:
    """What had to be so, and whether it was."""
    finished = [s for s in story.steps if s.fate == "finished"]
    running = [s for s in story.steps if s.fate == "running"]
    fresh = {s.key for s in story.steps if s.fate != "finished"}
    again = [s for s in finished if s.ran[1] > 0 and s.key not in fresh]
    twice = [s for s in story.steps if s.kind == "model" and sum(s.ran) > 1]
    turns = [s for s in story.steps if s.kind == "model"]
    rewritten = [e for e in story.before if e not in story.after]
    found = [
        (
            bool(running) and bool(finished),
            f"killed in the middle: {len(finished)} steps finished, {len(running)} running",
        ),
        (not again, "no finished step ran again" + _named(again)),
        (not rewritten, "what was in the journal is there unchanged"),
        (
            all(s.ran[1] == 1 for s in running if s.kind == "tool"),
            "what was running ran again, and nothing else did",
        ),
    ]
    if story.model is not None:
        asked = len(requests(story.model))
        found.append(
            (
                not twice and asked == len(turns),
                f"{len(turns)} model turns, {asked} requests: each was paid once",
            )
        )
    return found


def _named(steps: list[Step]) -> str:
    return "" if not steps else ": " + ", ".join(f"{s.title} {s.short}" for s in steps)


@dataclass(frozen=True)
class Line:
    """One line of the timeline."""

    ms: int
    mark: str
    style: str
    title: str
    detail: str = ""


def show(console: Console, story: Story) -> bool:
    """The timeline, the ledger, the verdict; True when all is as it must be."""
    first, second = story.pids
    _show_lines(console, f"process {first}", story, lines_before(story))
    _show_lines(console, f"process {second}, the same file", story, lines_after(story))
    console.print()
    console.print(_ledger(story))
    console.print()
    judged = verdicts(story)
    for good, text in judged:
        mark = Text("  ✔ ", "bold green") if good else Text("  ✘ ", "bold red")
        console.print(mark.append(text, "default"))
    return all(good for good, _ in judged)


def lines_before(story: Story) -> list[Line]:
    """What the file knew when the process died."""
    lines = [Line(story.asked_ms, "·", "dim", "question", "accepted: it is in the journal")]
    for step in sorted(story.steps, key=lambda s: s.ended_ms):
        if step.fate == "finished":
            lines.append(Line(step.ended_ms, "●", "green", step.title, step.short))
    for step in story.steps:
        if step.fate == "running":
            lines.append(Line(step.begun_ms, "◐", "yellow", step.title, f"{step.short} … is running"))
    return [*lines, Line(story.killed_ms, "✖", "bold red", "SIGKILL", "no goodbye, nothing saved in a hurry")]


def lines_after(story: Story) -> list[Line]:
    """What the second process did, and what it had no need to do."""
    finished = [s for s in story.steps if s.fate == "finished"]
    turns = sum(s.kind == "model" for s in finished)
    known = f"{turns} model turns and {len(finished) - turns} tool results, from the journal"
    lines = [Line(story.ready_ms, "↺", "blue", "replayed", known)]
    for step in sorted(story.steps, key=lambda s: s.ended_ms):
        if step.fate == "running":
            lines.append(Line(step.ended_ms, "↻", "yellow", step.title, f"{step.short} ran again"))
        elif step.fate == "later":
            lines.append(Line(step.ended_ms, "●", "green", step.title, step.short))
    return [*lines, Line(story.answered_ms, "★", "bold", "answer", story.answer)]


def _show_lines(console: Console, heading: str, story: Story, lines: list[Line]) -> None:
    console.print()
    console.rule(Text(heading, style="bold cyan"), align="left", style="cyan")
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=8, justify="right", style="dim")
    grid.add_column(width=1)
    grid.add_column(width=14, no_wrap=True)
    grid.add_column(width=WIDTH - 27)
    for line in lines:
        seconds = f"{(line.ms - story.asked_ms) / 1000:.2f} s"
        grid.add_row(seconds, Text(line.mark, line.style), Text(line.title, line.style), Text(line.detail))
    console.print(grid)


def _ledger(story: Story) -> Table:
    title = "How often each step's action really began, by the ledgers"
    table = Table(title=title, title_style="bold", title_justify="left", width=WIDTH, box=SIMPLE_HEAD)
    table.add_column("step")
    table.add_column("at the kill")
    for pid in story.pids:
        table.add_column(f"in {pid}", justify="right")
    words = {"finished": "finished", "running": "running", "later": "not begun"}
    for step in story.steps:
        what = step.short if step.kind == "tool" else ""
        counts = ["?" if n < 0 else str(n) if n else "–" for n in step.ran]
        style = "yellow" if step.fate == "running" else None
        table.add_row(f"{step.title} {what}".strip(), words[step.fate], *counts, style=style)
    return table
