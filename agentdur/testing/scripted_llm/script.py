"""The script: what the server answers, to whom, and what goes wrong on the way.

Rules of this file:
1. A script written in Python and a script written in JSON pass the same checks; both end as the same Structs.
2. A refusal names the turn and the field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec

T = TypeVar("T")

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
Positive: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]
Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]
ErrorStatus: TypeAlias = Annotated[int, msgspec.Meta(ge=400, le=599)]

_PATH = re.compile(r"^(?P<reason>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_TURN = re.compile(r"(?:^|\.)turns\[(?P<turn>\d+)\]\.?(?P<field>.*)$")
_NAMED_FIELD = re.compile(r"(?:required|unknown) field `(?P<field>[^`]+)`")


class ScriptError(ValueError):
    """The script cannot be played. `turn` and `field` say where, the message says why."""

    def __init__(self, reason: str, *, turn: int | None = None, field: str | None = None) -> None:
        where = [f"turn {turn}"] if turn is not None else []
        where += [f"field {field}"] if field else []
        super().__init__(f"{', '.join(where) or 'script'}: {reason}")
        self.reason, self.turn, self.field = reason, turn, field


class _Data(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Frozen, by keyword, and an unknown field is a mistake."""


class _FaultData(_Data, frozen=True, kw_only=True, tag_field="kind"):
    """What all faults share.

    `times`: how often it strikes before the turn is answered (None: always). `per`: whether every
    conversation has its own count, or all requests that reach the turn use up one count together.
    """

    times: Positive | None = 1
    per: Literal["conversation", "turn"] = "conversation"
    delay_ms: Count = 0


class Status(_FaultData, frozen=True, kw_only=True, tag="status"):
    """An error status with an OpenAI-shaped body; `retry_after_s` becomes the Retry-After header."""

    status: ErrorStatus
    retry_after_s: Seconds | None = None
    message: str | None = None
    code: str | None = None


class Hang(_FaultData, frozen=True, kw_only=True, tag="hang"):
    """The request is taken and never answered; it ends when the client gives up."""


class DropBeforeHeaders(_FaultData, frozen=True, kw_only=True, tag="drop_before_headers"):
    """The connection is closed without a byte of an answer."""


class DropMidStream(_FaultData, frozen=True, kw_only=True, tag="drop_mid_stream"):
    """The connection is closed after `after_chunks` chunks (at most all of them, never `[DONE]`).

    An answer that is not streamed is cut in the middle of its body.
    """

    after_chunks: Count = 2


class Garbage(_FaultData, frozen=True, kw_only=True, tag="garbage"):
    """Status 200 and a body that is not JSON."""


class EmptyChoices(_FaultData, frozen=True, kw_only=True, tag="empty_choices"):
    """Status 200 and a well-formed completion without any choice, or a response without output."""


class ErrorEvent(_FaultData, frozen=True, kw_only=True, tag="error_event"):
    """After `after_chunks` chunks of a stream the provider says that it failed, in the stream itself. An
    answer that is not streamed has status 500 instead."""

    after_chunks: Count = 2
    message: str = "The server had an error while processing your request."
    code: str = "server_error"


class NoFinish(_FaultData, frozen=True, kw_only=True, tag="no_finish"):
    """A stream ends in good order after `after_chunks` chunks, and never says why it ended. An answer that is
    not streamed is cut in the middle of its body."""

    after_chunks: Count = 2


Fault: TypeAlias = (
    Status | Hang | DropBeforeHeaders | DropMidStream | Garbage | EmptyChoices | ErrorEvent | NoFinish
)


class ToolCall(_Data, frozen=True, kw_only=True):
    """One call the model asks for. Arguments given as a string are sent as they are, JSON or not."""

    name: Name
    arguments: dict[str, Any] | str = msgspec.field(default_factory=dict)
    id: Name | None = None


class Usage(_Data, frozen=True, kw_only=True):
    """Tokens to report; the total is the sum of the first two."""

    prompt_tokens: Count
    completion_tokens: Count
    cached_tokens: Count = 0
    reasoning_tokens: Count = 0


class When(_Data, frozen=True, kw_only=True):
    """Which requests a turn is for: all conditions given must hold.

    `last_user` and `system` are substrings of the last user message and of the system prompt; `model` is the
    whole model name.
    """

    last_user: Name | None = None
    system: Name | None = None
    model: Name | None = None


class Turn(_Data, frozen=True, kw_only=True):
    """One answer of the model.

    `at`: the number of assistant messages in the conversations it answers; default one more than the turn
    before it in the same sequence (see `Script`), 0 for the first. `reasoning`: said before the answer,
    as `reasoning_content` in chat completions, as a summary in responses.
    """

    text: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    when: When | None = None
    at: Count | None = None
    usage: Usage | None = None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"] | None = None
    delay_ms: Count = 0
    chunk_delay_ms: Count = 0
    chunk_chars: Positive = 12
    faults: tuple[Fault, ...] = ()


class Script(_Data, frozen=True, kw_only=True):
    """All turns of all agents that share the server.

    Turns with an equal `when` form a sequence. The first sequence whose `when` holds answers; the sequence
    without `when` answers what no other does. In the sequence, turn k answers the conversation with k
    assistant messages.

    `count`: which assistant messages count, all of the conversation or those since the last user message.
    `after_last`: what a conversation longer than its sequence gets, a refusal or the last turn again.
    """

    turns: Annotated[tuple[Turn, ...], msgspec.Meta(min_length=1)]
    models: tuple[Name, ...] = ("scripted",)
    count: Literal["conversation", "since_last_user"] = "conversation"
    after_last: Literal["refuse", "repeat"] = "refuse"


class AddedFaults(_Data, frozen=True, kw_only=True):
    """Faults added while the server runs, for one turn (its index) or for every request (None)."""

    faults: Annotated[tuple[Fault, ...], msgspec.Meta(min_length=1)]
    turn: Count | None = None


class Control(_Data, frozen=True, kw_only=True):
    """What `POST /control` takes: a new script, which resets all counts, and then faults on top of it."""

    script: Script | None = None
    add_faults: tuple[AddedFaults, ...] = ()


ScriptSource: TypeAlias = Script | Sequence[Turn | Mapping[str, Any]] | Mapping[str, Any] | bytes | str


def load_script(source: ScriptSource) -> Script:
    """Check a script and return it. Takes a Script, a list of turns, or either of them as JSON text.

    Refuses with a ScriptError whatever could not be played.
    """
    data = _plain(source)
    if isinstance(data, list):
        data = {"turns": data}
    script = _convert(data, Script)
    _check(script)
    return script


def load_control(source: bytes) -> Control:
    """Check the body of `POST /control`, which must ask for something."""
    control = _convert(_plain(source), Control)
    if control.script is None and not control.add_faults:
        raise ScriptError("give a script, or add_faults, or both")
    if control.script is not None:
        _check(control.script)
    return control


def load_faults(added: AddedFaults) -> AddedFaults:
    """Check faults that were written in Python."""
    return _convert(_plain(added), AddedFaults)


def sequences(script: Script) -> dict[When | None, dict[int, int]]:
    """For each `when`, in the order of the script: number of assistant messages -> index of the turn."""
    found: dict[When | None, dict[int, int]] = {}
    for index, turn in enumerate(script.turns):
        sequence = found.setdefault(turn.when, {})
        at = turn.at if turn.at is not None else next(reversed(sequence), -1) + 1
        if at in sequence:
            raise ScriptError(
                f"turn {sequence[at]} answers {at} assistant messages already", turn=index, field="at"
            )
        sequence[at] = index
    return found


def _plain(source: object) -> Any:
    if isinstance(source, str | bytes):
        try:
            return msgspec.json.decode(source)
        except msgspec.DecodeError as broken:
            raise ScriptError(f"not JSON: {broken}") from broken
    try:
        return msgspec.to_builtins(source)
    except (TypeError, ValueError) as foreign:
        raise ScriptError(f"holds a value that JSON cannot carry: {foreign}") from foreign


def _convert(data: Any, kind: type[T]) -> T:
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as refused:
        raise _located(str(refused)) from refused


def _located(message: str) -> ScriptError:
    """Turn msgspec's "… - at `$.turns[2].delay_ms`" into our own words."""
    match = _PATH.match(message)
    reason, path = (match["reason"], match["path"] or "") if match else (message, "")
    in_turn = _TURN.search(path)
    field = in_turn["field"] if in_turn else path
    named = _NAMED_FIELD.search(reason)
    if named:
        field = f"{field}.{named['field']}" if field else named["field"]
    return ScriptError(reason, turn=int(in_turn["turn"]) if in_turn else None, field=field)


def _check(script: Script) -> None:
    for index, turn in enumerate(script.turns):
        _check_turn(index, turn)
    sequences(script)


def _check_turn(index: int, turn: Turn) -> None:
    endless = [position for position, fault in enumerate(turn.faults) if fault.times is None]
    if turn.text is None and turn.refusal is None and not turn.tool_calls and not endless:
        raise ScriptError("give a text, tool_calls, or a fault that strikes always", turn=index, field="text")
    if endless and endless[0] < len(turn.faults) - 1:
        reason = "strikes always, so the faults after it never would"
        raise ScriptError(reason, turn=index, field=f"faults[{endless[0]}].times")
    if turn.when is not None and turn.when == When():
        raise ScriptError("has no condition; leave it out to answer everybody", turn=index, field="when")
    ids = [call.id for call in turn.tool_calls if call.id is not None]
    for position, call in enumerate(turn.tool_calls):
        if call.id is not None and ids.count(call.id) > 1:
            raise ScriptError(f"{call.id!r} is used twice", turn=index, field=f"tool_calls[{position}].id")
