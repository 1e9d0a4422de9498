"""Protobuf's encoding, as much of it as the service protocol uses: varints, byte strings, packed numbers.

Rules of this file:
1. Reading is as tolerant as protobuf is: unknown fields are kept apart, the last of several counts, numbers
   may be packed or not. What cannot be read is a `Malformed`.
2. Writing is canonical: fields in ascending order, defaults left out unless they mean something.
"""

from __future__ import annotations

from typing import TypeAlias

Fields: TypeAlias = dict[int, list[int | bytes]]
"""What a message holds: by field number, all values in their order. Numbers are ints, the rest bytes."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
VARINT_BYTES_MAX = 10
_FIXED = {FIXED64: 8, FIXED32: 4}
_SMALL = tuple(bytes((n,)) for n in range(128))


class Malformed(ValueError):
    """These bytes are no message of this kind."""


def varint(number: int) -> bytes:
    """An unsigned number, seven bits a byte, the lowest first."""
    if number < 128:
        return _SMALL[number]
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where it ends."""
    number = shift = 0
    for _ in range(VARINT_BYTES_MAX):
        if at >= len(data):
            raise Malformed("a number is cut")
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            if number >> 64:
                break
            return number, at
        shift += 7
    raise Malformed("a number has more than 64 bits")


def read(data: bytes) -> Fields:
    """All fields of a message."""
    fields: Fields = {}
    at, end = 0, len(data)
    while at < end:
        tag = data[at]
        at += 1
        if tag > 127:
            tag, at = read_varint(data, at - 1)
        number, kind = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise Malformed(f"field number {number}")
        value: int | bytes
        if kind == VARINT:
            value, at = read_varint(data, at)
        elif kind == BYTES:
            size, at = read_varint(data, at)
            if size > end - at:
                raise Malformed(f"field {number} is cut")
            value = data[at : at + size]
            at += size
        elif kind in _FIXED:  # no message here has one, a later version might
            size = _FIXED[kind]
            if size > end - at:
                raise Malformed(f"field {number} is cut")
            value = int.from_bytes(data[at : at + size], "little")
            at += size
        else:
            raise Malformed(f"field {number} has wire type {kind}")
        known = fields.get(number)
        if known is None:
            fields[number] = [value]
        else:
            known.append(value)
    return fields


# Getting values out of fields; None where the field is not there.


def number(fields: Fields, at: int) -> int | None:
    """An unsigned number."""
    values = fields.get(at)
    if values is None:
        return None
    value = values[-1]
    if isinstance(value, bytes):
        raise Malformed(f"field {at} is no number")
    return value


def blob(fields: Fields, at: int) -> bytes | None:
    """Bytes, or a message inside."""
    values = fields.get(at)
    if values is None:
        return None
    value = values[-1]
    if isinstance(value, int):
        raise Malformed(f"field {at} is a number")
    return value


def text(fields: Fields, at: int) -> str | None:
    """Text: UTF-8."""
    value = blob(fields, at)
    return None if value is None else decoded(value, at)


def decoded(value: int | bytes, at: int) -> str:
    """One value as text."""
    if isinstance(value, int):
        raise Malformed(f"field {at} is a number")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"field {at} is not UTF-8") from error


def blobs(fields: Fields, at: int) -> list[bytes]:
    """All values of a repeated field of bytes or messages."""
    values = fields.get(at, [])
    if any(isinstance(value, int) for value in values):
        raise Malformed(f"field {at} is a number")
    return values  # type: ignore[return-value]  # that is what was just looked at


def numbers(fields: Fields, at: int) -> tuple[int, ...]:
    """All values of a repeated number, packed or not."""
    out: list[int] = []
    for value in fields.get(at, ()):
        if isinstance(value, int):
            out.append(value)
            continue
        place = 0
        while place < len(value):
            one, place = read_varint(value, place)
            out.append(one)
    return tuple(out)


# Writing one field. Those with `always` are members of a oneof or optional: their default means something.


def put_number(at: int, value: int | None, *, always: bool = False) -> bytes:
    """An unsigned number; left out when it is None, or 0 unless `always`."""
    if value is None or (value == 0 and not always):
        return b""
    return varint(at << 3) + varint(value)


def put_blob(at: int, value: bytes | None, *, always: bool = False) -> bytes:
    """Bytes or a message; left out when None, or empty unless `always`."""
    if value is None or (not value and not always):
        return b""
    return varint(at << 3 | BYTES) + varint(len(value)) + value


def put_text(at: int, value: str | None, *, always: bool = False) -> bytes:
    """Text."""
    return put_blob(at, None if value is None else value.encode(), always=always)


def put_packed(at: int, values: tuple[int, ...]) -> bytes:
    """Repeated numbers in one value."""
    return put_blob(at, b"".join(map(varint, values)))
