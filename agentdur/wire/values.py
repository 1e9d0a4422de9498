"""The small messages inside others: values, failures, headers, keys, and what must hold for ids."""

from __future__ import annotations

from agentdur.core import journal as j
from agentdur.wire.proto import (
    Fields,
    Malformed,
    blob,
    blobs,
    decoded,
    number,
    put_blob,
    put_number,
    put_text,
    read,
    text,
)

COMPLETION_MAX = 1_000_000
"""Ids of completions are kept as a set of bits: an id larger than this would cost memory at each step."""
INSTANT_MS_MAX = 253_402_300_799_999
"""The last moment that has a date, 9999-12-31: what is later is as good as never, and no store keeps it."""
DURATION_MS_MAX = 100 * 365 * 86_400_000
FAILURE_CODE_MAX = 65_535
FAILURE_CODE_OTHER = 500


def completion_id(f: Fields, at: int) -> int:
    """An id that the handler's side gave."""
    found = number(f, at) or 0
    if not 0 < found <= COMPLETION_MAX:
        raise Malformed(f"completion id {found}")
    return found


def instant(f: Fields, at: int) -> int:
    """ms since the epoch; 0 when nothing is said."""
    return min(number(f, at) or 0, INSTANT_MS_MAX)


def required_text(f: Fields, at: int) -> str:
    """A name that cannot be empty."""
    found = text(f, at)
    if not found:
        raise Malformed(f"field {at} is missing")
    return found


def key_of(f: Fields, at: int) -> str:
    """A state key: bytes on the wire, text in the core."""
    return text(f, at) or ""


def value_of(f: Fields, at: int) -> bytes | None:
    """What a Value holds; None when there is none. An empty Value is a value."""
    inner = blob(f, at)
    return None if inner is None else blob(read(inner), 1) or b""


def put_value(at: int, value: bytes) -> bytes:
    """A Value."""
    return put_blob(at, put_blob(1, value), always=True)


def failure_of(inner: bytes) -> j.Failure:
    """A Failure. A code beyond 16 bits is 500."""
    f = read(inner)
    code = number(f, 1) or 0
    metadata = []
    for pair in blobs(f, 3):
        p = read(pair)
        metadata.append((text(p, 1) or "", text(p, 2) or ""))
    kept = code if code <= FAILURE_CODE_MAX else FAILURE_CODE_OTHER
    return j.Failure(kept, text(f, 2) or "", tuple(metadata))


def put_failure(at: int, failure: j.Failure, version: int) -> bytes:
    """A Failure; its metadata from V6 on."""
    inner = put_number(1, failure.code) + put_text(2, failure.message)
    if version >= 6:
        for name, value in failure.metadata:
            inner += put_blob(3, put_text(1, name) + put_text(2, value), always=True)
    return put_blob(at, inner, always=True)


def command_result(f: Fields, value: int, failure: int) -> j.Result:
    """A Value or a Failure; one of them must be there."""
    found = value_of(f, value)
    if found is not None:
        return j.Success(found)
    inner = blob(f, failure)
    if inner is None:
        raise Malformed("neither a value nor a failure")
    return failure_of(inner)


def put_result(result: j.Result, version: int, value: int, failure: int) -> bytes:
    """A Value or a Failure."""
    if isinstance(result, j.Success):
        return put_value(value, result.value)
    return put_failure(failure, result, version)


def outcome_of(f: Fields, *, void: int, value: int, failure: int) -> j.Void | j.Success | j.Failure:
    """Void, a Value or a Failure; one of them must be there."""
    if blob(f, void) is not None:
        return j.VOID
    return command_result(f, value, failure)


def put_outcome(
    outcome: j.Void | j.Success | j.Failure, version: int, *, void: int, value: int, failure: int
) -> bytes:
    """Void, a Value or a Failure."""
    if isinstance(outcome, j.Void):
        return put_blob(void, b"", always=True)
    return put_result(outcome, version, value, failure)


def headers_of(f: Fields, at: int) -> j.Headers:
    """Name and value of each header."""
    if at not in f:
        return ()
    out = []
    for header in blobs(f, at):
        h = read(header)
        out.append((text(h, 1) or "", text(h, 2) or ""))
    return tuple(out)


def put_headers(at: int, headers: j.Headers) -> bytes:
    """Name and value of each header."""
    return b"".join(
        [put_blob(at, put_text(1, name) + put_text(2, value), always=True) for name, value in headers]
    )


def keys_of(inner: bytes) -> tuple[str, ...]:
    """StateKeys: names of values."""
    return tuple(decoded(key, 1) for key in read(inner).get(1, ()))


def put_keys(keys: tuple[str, ...]) -> bytes:
    """StateKeys: names of values."""
    return b"".join([put_text(1, key, always=True) for key in keys])
