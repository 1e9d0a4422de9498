"""How a journal entry is written as columns, and read back.

Rules of this file:
1. What is written here is read by every later version: nothing is renamed, a field is only added, with a
   default. Fields that a reader does not know are ignored.
2. Bytes that a handler gave or got are `payload` as they came. The result of a step, the value of a state,
   the parameter of a call: no payload is ever inside `detail`.
3. `detail` is JSON text of the remaining fields; null when all of them have their default.
4. A completion's kind says what it completes (`RunCompletion`, `SleepCompletion`, …); a null payload without
   failure, callee or keys in its detail is Void.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias, get_args, get_type_hints

from msgspec import NODEFAULT, Struct, defstruct, field
from msgspec.json import Decoder
from msgspec.structs import fields

from agentdur.core.errors import StoreTooNew
from agentdur.core.ids import InvocationId
from agentdur.core.journal import (
    VOID,
    AnyCommand,
    CalleeId,
    Completion,
    CompletionOf,
    Entry,
    Failure,
    Keys,
    Outcome,
    Signal,
    Success,
)

Columns: TypeAlias = tuple[str, str | None, str | None, int | None, bytes | None, Struct | None]
"""(kind, name, branch, completion, payload, what `detail` is the JSON of)."""


class Stored(NamedTuple):
    """One journal row as it is read: `detail` is JSON text."""

    kind: str
    name: str | None
    branch: str | None
    completion: int | None
    payload: bytes | None
    detail: str | None


class Unsaid(Struct, frozen=True, omit_defaults=True, gc=False):
    """An outcome that is no bytes; all unset is Void."""

    failure: Failure | None = None
    callee: InvocationId | None = None
    keys: tuple[str, ...] | None = None


class CompletionDetail(Unsaid, frozen=True, omit_defaults=True, gc=False):
    """What a completion has beside its outcome."""

    meta: str = ""


class Coding(NamedTuple):
    """Both directions for one kind."""

    write: Callable[[Any], Columns]
    read: Callable[[Stored], Entry]


def unsaid(outcome: Outcome) -> dict[str, Any]:
    """The fields of `Unsaid` for an outcome that is not Success."""
    match outcome:
        case Failure():
            return {"failure": outcome}
        case CalleeId(invocation_id):
            return {"callee": invocation_id}
        case Keys(names):
            return {"keys": names}
        case _:
            return {}


def outcome_of(payload: bytes | None, detail: Any) -> Any:
    """The outcome that `payload` and an `Unsaid` (or None) say."""
    if payload is not None:
        return Success(payload)
    if detail is None:
        return VOID
    if detail.failure is not None:
        return detail.failure
    if detail.callee is not None:
        return CalleeId(detail.callee)
    return VOID if detail.keys is None else Keys(detail.keys)


_COLUMNS = ("name", "branch", "completion")
_PAYLOADS = ("value", "parameter")  # how the kinds call their bytes
_OUTCOMES = ("result", "outcome")  # how they call their Success, Failure, …


def _detail_type(kind: type[Struct], base: type[Struct] | None = None) -> type[Struct]:
    """The fields of `kind` that have no column of their own; those without a default come first."""
    hints = get_type_hints(kind)
    rest = [f for f in fields(kind) if f.name not in (*_COLUMNS, *_PAYLOADS, *_OUTCOMES)]
    rest.sort(key=lambda f: f.default is not NODEFAULT)
    return defstruct(
        f"{kind.__name__}Detail",
        [(f.name, hints[f.name], field(default=f.default)) for f in rest],
        bases=None if base is None else (base,),
        frozen=True, gc=False, omit_defaults=True, kw_only=base is not None,
    )  # fmt: skip


def _getter(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """The values of these attributes, always as a tuple."""
    if not names:
        return lambda _: ()
    get = attrgetter(*names)
    return get if len(names) > 1 else lambda entry: (get(entry),)


def _without_outcome(kind: type[Struct], names: list[str]) -> Coding:
    """A kind whose bytes, if it has any, are a plain field."""
    tag = kind.__name__
    detail_type = _detail_type(kind)
    detail_names = [f.name for f in fields(detail_type)]
    get, decoder = _getter(detail_names), Decoder(detail_type)
    needed = any(f.required for f in fields(detail_type))
    unset = None if needed or not detail_names else detail_type()
    payload_name = next((name for name in _PAYLOADS if name in names), None)
    get_payload = attrgetter(payload_name) if payload_name else lambda _: None
    get_completion = attrgetter("completion") if "completion" in names else lambda _: None
    plain = not detail_names

    def write(entry: Any) -> Columns:
        detail = None if plain else detail_type(*get(entry))
        if detail == unset:
            detail = None
        return tag, entry.name, entry.branch, get_completion(entry), get_payload(entry), detail

    def read(row: Stored) -> Entry:
        given: dict[str, Any] = {"name": row.name or "", "branch": row.branch or ""}
        if "completion" in names:
            given["completion"] = row.completion
        if payload_name:
            given[payload_name] = row.payload
        if row.detail is not None:
            given.update(zip(detail_names, get(decoder.decode(row.detail)), strict=True))
        return kind(**given)  # type: ignore[return-value]  # `kind` is one of the entries

    return Coding(write, read)


def _with_outcome(kind: type[Struct], names: list[str]) -> Coding:
    """A kind that carries an outcome: its bytes when it is Success, else said in `detail`."""
    tag = kind.__name__
    detail_type = _detail_type(kind, Unsaid)
    detail_names = [f.name for f in fields(detail_type) if f.name not in Unsaid.__struct_fields__]
    decoder = Decoder(detail_type)
    outcome_name = next(name for name in _OUTCOMES if name in names)
    columns = [name for name in _COLUMNS if name in names]
    unset = None if detail_names else detail_type()
    plain = not detail_names and "name" in names and "branch" in names
    get_completion = attrgetter("completion") if "completion" in names else lambda _: None

    def write(entry: Any) -> Columns:
        outcome = getattr(entry, outcome_name)
        if plain and type(outcome) is Success:
            return tag, entry.name, entry.branch, get_completion(entry), outcome.value, None
        payload, said = (outcome.value, {}) if type(outcome) is Success else (None, unsaid(outcome))
        detail = detail_type(**{name: getattr(entry, name) for name in detail_names}, **said)
        name, branch, completion = (getattr(entry, column, None) for column in _COLUMNS)
        return tag, name, branch, completion, payload, None if detail == unset else detail

    def read(row: Stored) -> Entry:
        detail: Any = None if row.detail is None else decoder.decode(row.detail)
        given: dict[str, Any] = {name: getattr(row, name) for name in columns}
        given |= {name: getattr(detail, name) for name in detail_names}
        given[outcome_name] = outcome_of(row.payload, detail)
        return kind(**given)  # type: ignore[return-value]  # `kind` is one of the entries

    return Coding(write, read)


_COMPLETIONS = {of: f"{of}Completion" for of in get_args(CompletionOf)}
_COMPLETION_DETAIL = Decoder(CompletionDetail)


def _write_completion(entry: Completion) -> Columns:
    outcome = entry.outcome
    if type(outcome) is Success:
        detail = CompletionDetail(meta=entry.meta) if entry.meta else None
        return _COMPLETIONS[entry.of], None, None, entry.id, outcome.value, detail
    said = unsaid(outcome)
    detail = CompletionDetail(meta=entry.meta, **said) if said or entry.meta else None
    return _COMPLETIONS[entry.of], None, None, entry.id, None, detail


def _completion_reader(of: CompletionOf) -> Callable[[Stored], Entry]:
    def read(row: Stored) -> Entry:
        assert row.completion is not None
        if row.detail is None:
            return Completion(row.completion, of, outcome_of(row.payload, None))
        detail = _COMPLETION_DETAIL.decode(row.detail)
        return Completion(row.completion, of, outcome_of(row.payload, detail), detail.meta)

    return read


def _coding(kind: type[Struct]) -> Coding:
    names = [f.name for f in fields(kind)]
    carries = any(name in names for name in _OUTCOMES)
    return _with_outcome(kind, names) if carries else _without_outcome(kind, names)


_CODINGS = {kind: _coding(kind) for kind in (*get_args(AnyCommand), Signal)}
_READERS = {kind.__name__: coding.read for kind, coding in _CODINGS.items()}
_READERS |= {tag: _completion_reader(of) for of, tag in _COMPLETIONS.items()}

WRITERS: dict[type[Any], Callable[[Any], Columns]] = {k: coding.write for k, coding in _CODINGS.items()}
"""By class: entry -> columns."""
WRITERS[Completion] = _write_completion


def read_entry(row: Stored) -> Entry:
    """The entry that was written as `row`; StoreTooNew when this version does not know its kind."""
    read = _READERS.get(row.kind)
    if read is None:
        raise StoreTooNew(f"a journal has an entry of kind {row.kind!r}")
    return read(row)
