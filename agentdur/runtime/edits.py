"""A journal with other values in it, and what is to be asked otherwise behind it: what a fork begins with.

Rules of this file:
1. Only what came from outside can be another: the input, and results. What the handler did is its own.
2. A turn that is edited is not kept: it is asked anew, and so is all behind it.
3. Whatever is edited is said in the input's header. So the fork knows it, and whoever compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from agentdur.core import journal as j
from agentdur.core.edits import (
    EDITED,
    Edit,
    MessageEdit,
    ModelEdit,
    TurnEdit,
    ValueEdit,
    edits_of,
    nth_of,
    with_edits,
)
from agentdur.core.errors import BadRequest, NotEditable, ValueTooLarge
from agentdur.core.ids import InvocationId

EDITS_CHARS_MAX = 1_000_000
"""All that a fork does otherwise, as JSON: every attempt reads it."""
Journal = list[tuple[int, j.Entry]]
Conversation = Callable[[str], list[bytes] | None]


class Wanted(Struct, frozen=True):
    """What a fork is to be. `last`: the last entry to keep, None: all that the edits allow. `values`: others,
    by entry. `turns`: by the entry of a model's step, or of its answer."""

    last: int | None
    values: Mapping[int, bytes]
    turns: Mapping[int, TurnEdit]


def edited(
    of: InvocationId, entries: Journal, wanted: Wanted, conversation: Conversation, size_max: int
) -> tuple[Journal, int]:
    """The entries as the fork has them, and the last of them that is kept. BadRequest for what is no entry or
    is not kept, NotEditable, ValueTooLarge."""
    turns = {_turn(entries, index).index: turn for index, turn in wanted.turns.items()}
    last = wanted.last
    if last is None:
        last = min(turns) - 1 if turns else max(wanted.values, default=0)
    known = dict(entries)
    for index in wanted.values:
        if index > last or index not in known:
            raise BadRequest(f"edits: {index} is no entry up to {last}")
    made: list[Edit] = [ValueEdit(of, index) for index in sorted(wanted.values)]
    for index, turn in sorted(turns.items()):
        if index <= last:
            raise BadRequest(
                f"turns: entry {index} is kept, up to {last}: a turn that is edited is asked anew"
            )
        made += _told_otherwise(of, _turn(entries, index), turn, conversation)
    changed = [(index, _with(index, entry, wanted.values)) for index, entry in entries]
    if made and isinstance(first := changed[0][1], j.Input):
        headers = with_edits(first.headers, made)
        most = min(EDITS_CHARS_MAX, size_max)
        if len(headers[0][1]) > most:
            raise ValueTooLarge(f"the edits have {len(headers[0][1])} characters, the limit is {most}")
        changed[0] = (0, replace(first, headers=headers))
    return changed, last


class _Turn(Struct, frozen=True):
    """A model's step, and what it noted; nothing while it has no answer."""

    index: int
    step: str
    facts: dict[str, Any] | None


def _turn(entries: Journal, index: int) -> _Turn:
    entry = dict(entries).get(index)
    command = entry
    if isinstance(entry, j.Completion):
        answered = (one for _, one in entries if isinstance(one, j.Run) and one.completion == entry.id)
        command = next(answered, None)
    if not isinstance(command, j.Run):
        raise NotEditable(f"entry {index} is no step of a model")
    at = next(number for number, one in entries if one is command)
    answers = (one for _, one in entries if isinstance(one, j.Completion) and one.id == command.completion)
    answer = next(answers, None)
    facts: dict[str, Any] = msgspec.json.decode(answer.meta) if answer is not None and answer.meta else {}
    if answer is not None and "conversation" not in facts and not command.name.startswith(j.MODEL_STEP):
        raise NotEditable(f"entry {index}, the step '{command.name}', has asked no model")
    return _Turn(at, command.name, None if answer is None else facts)


def _told_otherwise(
    of: InvocationId, turn: _Turn, wanted: TurnEdit, conversation: Conversation
) -> Iterator[Edit]:
    facts = turn.facts or {}
    if wanted.messages:
        if framework := facts.get("framework"):
            raise NotEditable(f"entry {turn.index}: what it tells models is {framework}'s own")
        stored = conversation(facts["conversation"]) if facts.get("conversation") else None
        if stored is None:
            raise NotEditable(f"entry {turn.index}: the messages of this turn are not known")
        told = [msgspec.json.decode(message) for message in stored]
        for at, content in sorted(wanted.messages.items()):
            if not at < len(told):
                raise BadRequest(f"turns: entry {turn.index} was told {len(told)} messages, there is no {at}")
            if told[at].get("content") == content:
                raise BadRequest(f"turns: message {at} of entry {turn.index} says just that already")
            nth = nth_of(told, at)
            yield MessageEdit(of, turn.index, turn.step, at, nth, told[at], content)
    if wanted.model is not None:
        before = facts.get("request_model") or facts.get("model") or ""
        if facts.get("why") == "budget":
            before = facts.get("asked") or before
        yield ModelEdit(of, turn.index, turn.step, before, wanted.model)


def _with(index: int, entry: j.Entry, edits: Mapping[int, bytes]) -> j.Entry:
    if index not in edits:
        return entry
    value = edits[index]
    match entry:
        case j.Input():
            return replace(entry, value=value)
        case j.Completion(outcome=j.Success() | j.Failure(), of="Run"):
            return replace(entry, outcome=j.Success(value), meta=_noted(entry.meta))
        case j.Completion(outcome=j.Success() | j.Failure()):
            return replace(entry, outcome=j.Success(value))
        case j.Signal(outcome=j.Success() | j.Failure()):
            return replace(entry, outcome=j.Success(value))
        case _:
            raise BadRequest(f"edits: entry {index} is neither the input nor a result")


def _noted(meta: str) -> str:
    """The step's note, which says that this is not what the step answered."""
    facts: dict[str, Any] = msgspec.json.decode(meta) if meta else {}
    facts[EDITED] = True
    return msgspec.json.encode(facts).decode()


def used(entries: Journal) -> list[tuple[Edit, bool]]:
    """What a fork does otherwise, and whether it has come to that."""
    first = entries[0][1] if entries else None
    edits = edits_of(first.headers) if isinstance(first, j.Input) else ()
    if not edits:
        return []
    numbers: set[int] = set()
    for _, entry in entries:
        if isinstance(entry, j.Completion) and EDITED in entry.meta:
            said = msgspec.json.decode(entry.meta).get(EDITED)
            numbers.update(said if isinstance(said, list) else ())
    return [(edit, isinstance(edit, ValueEdit) or number in numbers) for number, edit in enumerate(edits)]
