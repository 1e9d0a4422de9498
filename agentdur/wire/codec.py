"""Frames to words and back: one codec for both ends.

Rules of this file:
1. Every field that the core keeps is carried, so that a command that was read, stored and written again is
   the same to an SDK that compares it field by field.
2. What does not belong is a ProtocolError with its reason; nothing else is ever raised for foreign bytes.
3. The endpoint carries a command's branch in its name (`search ⑂ gather.0`), because another engine keeps no
   branches; `branches` asks for that. The server leaves names as they came.
"""

from __future__ import annotations

from agentdur.core import journal as j
from agentdur.core.errors import ProtocolViolation
from agentdur.wire.commands import COMMANDS
from agentdur.wire.control import CONTROLS
from agentdur.wire.frames import REQUESTED_ACK, Frame, pack
from agentdur.wire.messages import ProposeRunCompletion, Word
from agentdur.wire.notifications import NOTIFICATIONS, SIGNAL, TYPE_OF_COMPLETION, write_notification
from agentdur.wire.proto import Malformed, put_text, read, text

VERSIONS = (5, 6, 7)
FORK = " ⑂ "
_NAME = 12
_CONTROL_TYPES = {row.word: (kind, row.write) for kind, row in CONTROLS.items()}
_COMMAND_TYPES = {row.word: (kind, row.write) for kind, row in COMMANDS.items()}


def encode(word: Word, version: int, flags: int = 0, *, branches: bool = False) -> bytes:
    """A whole frame."""
    if isinstance(word, j.Command):
        kind, write_command = _COMMAND_TYPES[type(word)]
        before, after = write_command(word, version)
        name = f"{word.name}{FORK}{word.branch}" if branches and word.branch else word.name
        return pack(kind, before + put_text(_NAME, name) + after, flags)
    if isinstance(word, j.Completion):
        return pack(TYPE_OF_COMPLETION[word.of], write_notification(word, version), flags)
    if isinstance(word, j.Signal):
        return pack(SIGNAL, write_notification(word, version), flags)
    kind, write = _CONTROL_TYPES[type(word)]
    return pack(kind, write(word, version), flags)


def decode(frame: Frame, version: int, *, branches: bool = False) -> Word:
    """What a frame says."""
    kind = frame.type
    try:
        row = COMMANDS.get(kind)
        if row is not None:
            _check_flags(frame, REQUESTED_ACK)
            fields = read(frame.body)
            name = text(fields, _NAME) or ""
            branch = ""
            if branches and FORK in name:
                name, _, branch = name.rpartition(FORK)
            command: j.AnyCommand = row.read(fields, version, {"name": name, "branch": branch})
            return command
        if kind in NOTIFICATIONS:
            _check_flags(frame, 0)
            return NOTIFICATIONS[kind](read(frame.body))
        control = CONTROLS.get(kind)
        if control is None:
            raise Malformed("unknown type")
        _check_flags(frame, REQUESTED_ACK if control.word is ProposeRunCompletion else 0)
        word: Word = control.read(read(frame.body), version)
        return word
    except Malformed as error:
        raise ProtocolViolation(f"message 0x{kind:04x}: {error}") from error


def _check_flags(frame: Frame, allowed: int) -> None:
    if frame.flags & ~allowed:
        raise Malformed(f"flags 0x{frame.flags:04x}")
