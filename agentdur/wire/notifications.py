"""Notifications: one layout for all kinds. Which id it answers, and how it came out."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from agentdur.core import journal as j
from agentdur.core.ids import InvocationId
from agentdur.wire.proto import Fields, Malformed, blob, number, put_blob, put_number, put_text, text
from agentdur.wire.values import completion_id, keys_of, outcome_of, put_keys, put_outcome

SIGNAL = 0xFBFF
TYPE_OF_COMPLETION: dict[j.CompletionOf, int] = {
    "GetState": 0x8002, "GetStateKeys": 0x8006, "GetPromise": 0x8009, "PeekPromise": 0x800A,
    "CompletePromise": 0x800B, "Sleep": 0x800C, "Call": 0x800D, "CallId": 0x800E, "Run": 0x8011,
    "Attach": 0x8012, "Output": 0x8013,
}  # fmt: skip
assert set(TYPE_OF_COMPLETION) == set(get_args(j.CompletionOf))
_VOID, _VALUE, _FAILURE, _CALLEE, _KEYS = 4, 5, 6, 16, 17


def _completion(of: j.CompletionOf) -> Callable[[Fields], j.Completion]:
    def completion(f: Fields) -> j.Completion:
        return j.Completion(completion_id(f, 1), of, _outcome(f))

    return completion


def _outcome(f: Fields) -> j.Outcome:
    callee = text(f, _CALLEE)
    if callee is not None:
        return j.CalleeId(InvocationId(callee))
    keys = blob(f, _KEYS)
    if keys is not None:
        return j.Keys(keys_of(keys))
    return outcome_of(f, void=_VOID, value=_VALUE, failure=_FAILURE)


def _signal(f: Fields) -> j.Signal:
    index, name = number(f, 2), text(f, 3)
    if index is None and name is None:
        raise Malformed("a signal without index or name")
    signal: int | str = index if index is not None else name or ""
    return j.Signal(signal, outcome_of(f, void=_VOID, value=_VALUE, failure=_FAILURE))


NOTIFICATIONS: dict[int, Callable[[Fields], j.Notification]] = {
    **{kind: _completion(of) for of, kind in TYPE_OF_COMPLETION.items()},
    SIGNAL: _signal,
}


def write_notification(word: j.Notification, version: int) -> bytes:
    """The body of a completion or a signal."""
    if isinstance(word, j.Completion):
        head = put_number(1, word.id, always=True)
    elif isinstance(word.signal, int):
        head = put_number(2, word.signal, always=True)
    else:
        head = put_text(3, word.signal, always=True)
    outcome = word.outcome
    if isinstance(outcome, j.CalleeId):
        return head + put_text(_CALLEE, outcome.invocation_id, always=True)
    if isinstance(outcome, j.Keys):
        return head + put_blob(_KEYS, put_keys(outcome.names), always=True)
    return head + put_outcome(outcome, version, void=_VOID, value=_VALUE, failure=_FAILURE)
