"""What a command may hold: text that can be stored, and values within their limit.

Rules of this file:
1. Both are checked before the journal is asked, so that an attempt that replays stops at the same place.
2. A command that is refused here raises in the line that made it; nothing of it is proposed.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from agentdur.core import journal as j
from agentdur.core.errors import EntryTooLarge, NotSerializable
from agentdur.core.text import require_text

_BYTES = {
    j.SetState: "value", j.Call: "parameter", j.OneWayCall: "parameter", j.CompletePromise: "result",
    j.CompleteAwakeable: "result", j.SendSignal: "outcome",
}  # fmt: skip


def _text_fields(kind: type[j.Command]) -> tuple[str, ...]:
    """The fields that are text, the ones every command has first."""
    hints = get_type_hints(kind)
    own = [name for name, hint in hints.items() if str in _members(hint) and name not in ("name", "branch")]
    return ("name", "branch", *own)


def _members(hint: Any) -> tuple[Any, ...]:
    """Of a union, or the hint alone; a NewType counts as what it is made of."""
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return tuple(getattr(one, "__supertype__", one) for one in members)


_FIELDS: dict[type, tuple[str, ...]] = {kind: _text_fields(kind) for kind in get_args(j.AnyCommand)}
_TEXTS: dict[type, Callable[[Any], tuple[Any, ...]]] = {
    kind: attrgetter(*names) for kind, names in _FIELDS.items()
}
_OTHER: dict[str, type] = {"key": type(None), "idempotency_key": type(None), "signal": int}
"""What a field may hold instead of text."""


def check_command(made: j.AnyCommand, bytes_max: int) -> None:
    """Raises BadRequest or EntryTooLarge, naming the field."""
    kind = type(made)
    for text in _TEXTS[kind](made):
        if type(text) is not str or not text.isascii():
            _check_texts(made)
            break
    if kind in _BYTES:
        _check_size(made, bytes_max)
        headers: j.Headers = getattr(made, "headers", ())
        for name, value in headers:
            require_text("a header's name", name)
            require_text(f"the header {name}", value)


def _check_texts(made: j.AnyCommand) -> None:
    for field in _FIELDS[type(made)]:
        value, other = getattr(made, field), _OTHER.get(field)
        if other is None or not isinstance(value, other):
            require_text(f"{type(made).__name__}, its {field.replace('_', ' ')}", value)


def _check_size(made: j.AnyCommand, bytes_max: int) -> None:
    value = getattr(made, _BYTES[type(made)])
    if isinstance(value, j.Failure | j.Void):
        return
    data = value.value if isinstance(value, j.Success) else value
    if type(data) is not bytes or len(data) > bytes_max:
        check_size(_said(made), data, bytes_max)


def check_size(what: str, data: object, bytes_max: int) -> None:
    """EntryTooLarge when there is too much of it, NotSerializable when a serde gave no bytes."""
    if not isinstance(data, bytes):
        raise NotSerializable(f"{what}: the serde gave {type(data).__name__}, not bytes")
    if len(data) > bytes_max:
        raise EntryTooLarge(f"{what} has {len(data)} bytes, the limit is {bytes_max} (entry-size-limit)")


def _said(made: j.AnyCommand) -> str:
    match made:
        case j.SetState(key=name):
            return f"state '{name}'"
        case j.Call() | j.OneWayCall():
            return f"the argument of {made.service}/{made.handler}"
        case j.CompletePromise(key=name):
            return f"promise '{name}'"
        case j.SendSignal(signal=name):
            return f"signal '{name}'"
        case _:
            return f"the value of a {type(made).__name__}"
