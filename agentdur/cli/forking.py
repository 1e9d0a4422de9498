"""What a restart does otherwise than the run it is made from, as it is typed.

Rules of this file:
1. The command says it in the words of a person (the prompt, a message by its place); the admin API is told
   entries, which are looked up here.
2. A text that begins with @ names a file that has it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import typer

from agentdur.cli.admin_api import AdminApi, segment
from agentdur.cli.errors import BadArgument
from agentdur.core.journal import MODEL_STEP

_PROMPTS = ("system", "developer")

TurnAt = Annotated[
    int | None,
    typer.Option(
        "--turn", min=0, help="The model's turn that is edited, by its entry; by default the first."
    ),
]
Model = Annotated[
    str | None, typer.Option(help="Ask this model in the turn, and in those of the same agent.")
]
Prompt = Annotated[
    str | None,
    typer.Option(help="Another system message: its text, or @FILE. It holds for later turns, too."),
]
Messages = Annotated[
    list[str] | None,
    typer.Option("--message", metavar="PLACE=TEXT", help="The same for any message of the turn, from 0 on."),
]
Results = Annotated[
    list[str] | None,
    typer.Option(
        "--result", metavar="ENTRY=JSON", help="Another result of a step, a tool, a call, a signal."
    ),
]
Input = Annotated[str | None, typer.Option("--input", metavar="JSON", help="Another input.")]


class Edits(NamedTuple):
    """As they were typed."""

    turn: int | None
    model: str | None
    prompt: str | None
    messages: list[str] | None
    results: list[str] | None
    input: str | None

    def check_one(self, ids: list[str] | None) -> None:
        """BadArgument unless one invocation is meant: what is edited stands in its journal."""
        if any(one is not None and one != [] for one in self) and len(ids or ()) != 1:
            raise BadArgument("an edit names entries of one journal: give the id of its invocation")

    def body(self, api: AdminApi, id: str) -> dict[str, Any]:
        """As the admin API takes it; empty when nothing is edited. BadArgument for what names nothing."""
        values: dict[int, Any] = {}
        if self.input is not None:
            values[0] = _json("--input", self.input)
        for entry, text in _placed("--result", "ENTRY=JSON", self.results):
            values[entry] = _json("--result", text)
        body: dict[str, Any] = {"edits": values} if values else {}
        messages = {place: _text(text) for place, text in _placed("--message", "PLACE=TEXT", self.messages)}
        turn = self.turn
        if self.prompt is not None or messages or self.model is not None:
            run = api.get(f"/invocations/{segment(id)}")
            turn = _first_turn(run, values) if turn is None else turn
            if self.prompt is not None:
                messages[_prompt_of(api, run, turn)] = _text(self.prompt)
            edit = {"model": self.model, "messages": messages}
            body["turns"] = {turn: {name: one for name, one in edit.items() if one}}
        elif turn is not None:
            raise BadArgument("--turn: say what is edited there: --model, --prompt or --message")
        return body


def _first_turn(run: dict[str, Any], values: dict[int, Any]) -> int:
    """The first one that runs anew: behind the results that are edited."""
    for row in run.get("journal", ()):
        behind = row["kind"] == "Run" and row["index"] > max(values, default=0)
        if behind and row.get("name", "").startswith(MODEL_STEP):
            return int(row["index"])
    raise BadArgument("--turn: there is no turn of a model to edit")


def _prompt_of(api: AdminApi, run: dict[str, Any], turn: int) -> int:
    rows = {row["index"]: row for row in run.get("journal", ())}
    completion = rows.get(turn, {}).get("completion_id")
    of_turn = (row for row in rows.values() if row["kind"] == "Completion")
    answer: dict[str, Any] = next((row for row in of_turn if row["completion_id"] == completion), {})
    head = answer.get("meta", {}).get("conversation")
    told = api.part(f"/conversations/{segment(head)}", "messages") if head else []
    for place, message in enumerate(told):
        if message.get("role") in _PROMPTS:
            return place
    raise BadArgument(f"--prompt: the turn at entry {turn} has no system message")


def _placed(option: str, form: str, given: list[str] | None) -> list[tuple[int, str]]:
    found = []
    for one in given or ():
        place, equals, text = one.partition("=")
        if not equals or not place.isdecimal():
            raise BadArgument(f"{option} {one!r}: {form} is needed")
        found.append((int(place), text))
    return found


def _json(option: str, text: str) -> Any:
    try:
        return msgspec.json.decode(_text(text))
    except msgspec.DecodeError as error:
        raise BadArgument(f"{option} {text!r}: no JSON: {error}") from error


def _text(given: str) -> str:
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadArgument(f"{given}: {error}") from error
