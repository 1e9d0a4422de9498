"""What a step says about itself besides its result: model, tokens, cost, tool. Views read it."""

from __future__ import annotations

from typing import Any

import msgspec

from agentdur.core.errors import NotInHandler, ReservedFact
from agentdur.core.journal import ChatMessage
from agentdur.sdk.branch import Branch, current_branch
from agentdur.sdk.segment import STREAM


def keep_messages(messages: tuple[ChatMessage, ...]) -> None:
    """Store conversations beside the journal, with the result of the step that runs; what they are
    referred to by belongs into a note. Said again it replaces what was said."""
    branch = _stepping("keep_messages()")
    branch.messages = messages
    if branch.attempt.telling is not None:
        branch.attempt.telling()


def note(**facts: Any) -> None:
    """Attach facts to the step that runs, from inside its action; JSON data only. They are journaled with its
    result, whether that is a value or a terminal failure; an action that is retried leaves none.
    Facts noted twice: the later ones win. Outside of a step it raises NotInHandler."""
    if STREAM in facts:
        raise ReservedFact(f"note({STREAM}=…)")
    branch = _stepping("note()")
    known = msgspec.json.decode(branch.note) if branch.note else {}
    branch.note = msgspec.json.encode({**known, **facts}).decode()


def _stepping(what: str) -> Branch:
    branch = current_branch()
    while branch is not None and branch.in_step and not branch.stop_step:
        branch = branch.parent  # a task the step made: the step's own branch is further up
    if branch is None or not branch.in_step:
        raise NotInHandler(f"{what} belongs inside a step's action")
    return branch
