"""What a handler is handed, and what it hands back: neither gets better by trying again, so that a misfit
ends the invocation."""

from __future__ import annotations

from typing import Any, Protocol

from agentdur.core.errors import BadRequest, EntryTooLarge, NotSerializable
from agentdur.core.replay import Recorded
from agentdur.core.target import Target
from agentdur.sdk.checks import check_size
from agentdur.sdk.exceptions import TerminalError
from agentdur.sdk.service_handler import Handler


class Handed(Protocol):
    """What is needed of an attempt."""

    entry_size: int
    recorded: Recorded
    target: Target


def input_of(attempt: Handed, handler: Handler) -> Any:
    """The argument of the call."""
    try:
        return handler.input_serde.deserialize(attempt.recorded.input.value)
    except BadRequest as error:
        raise TerminalError(str(error), 400, {"agentdur_code": error.code}) from error


def output_of(attempt: Handed, handler: Handler, value: Any) -> bytes:
    """What the handler returned, as bytes within the limit of an entry."""
    try:
        data = handler.output_serde.serialize(value)
    except NotSerializable as error:
        named = NotSerializable(f"the result of {attempt.target}: {error.detail}")
        raise TerminalError(str(named), 500, {"agentdur_code": error.code}) from error
    if type(data) is not bytes or len(data) > attempt.entry_size:
        try:
            check_size(f"the result of {attempt.target}", data, attempt.entry_size)
        except (NotSerializable, EntryTooLarge) as error:
            raise TerminalError(str(error), 500, {"agentdur_code": error.code}) from error
    return data
