"""Identifiers: what they say, how they are written, how they are read.

Rules of this file:
1. An invocation id is its text; the 24 raw bytes (partition key, then uuid) are derived when needed.
2. The same inputs always give the same id; two invocations of one key always share their partition key.
3. Numbers are written in base62, most significant digit first, after reading their bytes little-endian.
4. What comes from outside is read by `parse_…`, which refuses with `BadId`; the others trust their input.
"""

from base64 import b64decode, b64encode
from functools import lru_cache
from hashlib import sha256
from typing import Final, NewType

from xxhash import xxh3_64_intdigest

InvocationId = NewType("InvocationId", str)

BUCKETS: Final = 512
"""How many partition keys the unkeyed invocations of one service are spread over."""

FIRST_AWAKEABLE_INDEX: Final = 17
"""Signal indexes below this one are reserved; 1 means cancel."""

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_PAIRS: Final = tuple(high + low for high in _DIGITS for low in _DIGITS)
_PAIR_VALUE: Final = {pair: value for value, pair in enumerate(_PAIRS)}
_P2: Final = 62**2
_P4: Final = 62**4
_P6: Final = 62**6
_P12: Final = 62**12

_VERSION = "1"
_INVOCATION_PREFIX = "inv_1"
_AWAKEABLE_PREFIX = "sign_1"
_RESOURCE_TYPES = frozenset({"inv", "dp", "sub", "snap", "sign", "prom", "vq", "mut"})
_AWAKEABLE_TYPES = frozenset({"sign", "prom"})
_AWAKEABLE_BYTES = 28
_WIDTHS: Final = {8: 11, 16: 22}
"""Base62 digits by size in bytes."""


class BadId(ValueError):
    """The text is not an id of the wanted kind. `reason` says where it goes wrong."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"{text!r}: {reason}")
        self.text, self.reason = text, reason


# Writing


def _write_128(n: int) -> str:
    """22 digits. Split so that most steps work on numbers of one machine word."""
    high, low = divmod(n, _P12)
    a, b = divmod(high, _P4)
    c, d = divmod(low, _P6)
    a, a1 = divmod(a, _P2)
    a0, a = divmod(a, _P2)
    b0, b = divmod(b, _P2)
    c, c2 = divmod(c, _P2)
    c0, c = divmod(c, _P2)
    d, d2 = divmod(d, _P2)
    d0, d = divmod(d, _P2)
    p = _PAIRS
    return f"{p[a0]}{p[a]}{p[a1]}{p[b0]}{p[b]}{p[c0]}{p[c]}{p[c2]}{p[d0]}{p[d]}{p[d2]}"


def _write_64(n: int) -> str:
    """11 digits."""
    digits = ""
    for _ in range(5):
        n, pair = divmod(n, _P2)
        digits = _PAIRS[pair] + digits
    return _DIGITS[n] + digits


class PartitionPrefix:
    """The first half of the ids of one partition key, written once."""

    __slots__ = ("text",)

    def __init__(self, partition_key: int) -> None:
        self.text = _INVOCATION_PREFIX + _write_64(int.from_bytes(partition_key.to_bytes(8, "big"), "little"))

    def id(self, uuid: bytes) -> InvocationId:
        return InvocationId(self.text + _write_128(int.from_bytes(uuid, "little")))


partition_prefix = lru_cache(maxsize=16_384)(PartitionPrefix)
"""The prefix of a partition key, remembered for the keys used lately."""


def invocation_id(pk: int, uuid: bytes) -> InvocationId:
    """The id of the invocation with this partition key (64 bits) and uuid (16 bytes)."""
    return InvocationId(partition_prefix(pk).text + _write_128(int.from_bytes(uuid, "little")))


def awakeable_id(invocation: InvocationId, index: int) -> str:
    """The id under which the outside completes signal `index` of this invocation."""
    raw = raw_invocation_id(invocation) + index.to_bytes(4, "big")
    return _AWAKEABLE_PREFIX + b64encode(raw, b"-_").rstrip(b"=").decode()


def encode_id(prefix: str, ulid16: bytes) -> str:
    """The id of a resource known by a ULID alone: `dp_1…`, `sub_1…`, `snap_1…`."""
    return f"{prefix}_{_VERSION}{_write_128(int.from_bytes(ulid16, 'little'))}"


# Reading


def _read_base62(text: str, size_bytes: int) -> bytes:
    """The bytes behind base62 digits; KeyError for a bad digit, OverflowError for too large a number."""
    digits = "0" + text if len(text) % 2 else text
    number = 0
    for at in range(0, len(digits), 2):
        number = number * _P2 + _PAIR_VALUE[digits[at : at + 2]]
    return number.to_bytes(size_bytes, "little")


def _parse_base62(text: str, digits: str, sizes_bytes: tuple[int, ...]) -> bytes:
    """The numbers one after the other, as id `text` should hold them: the first thing wrong is the reason."""
    raw, at = b"", 0
    for size in sizes_bytes:
        width = _WIDTHS[size]
        part = digits[at : at + width]
        if len(part) < width:
            raise BadId(text, "bad length")
        try:
            raw += _read_base62(part, size)
        except (KeyError, OverflowError) as error:
            raise BadId(text, "base62 decode error") from error
        at += width
    if at != len(digits):
        raise BadId(text, "bad length")
    return raw


def raw_invocation_id(invocation: InvocationId) -> bytes:
    """The 24 bytes of an id that is known to be good."""
    return _read_base62(invocation[5:16], 8) + _read_base62(invocation[16:], 16)


def partition_key_of(invocation: InvocationId) -> int:
    """The partition key inside an id that is known to be good."""
    return int.from_bytes(_read_base62(invocation[5:16], 8), "big")


def _split(text: str, wanted: frozenset[str]) -> tuple[str, str]:
    """(resource type, what follows the codec version)."""
    if not text:
        raise BadId(text, "bad length")
    resource, underscore, rest = text.partition("_")
    if not underscore:
        raise BadId(text, "bad format")
    if resource not in _RESOURCE_TYPES:
        raise BadId(text, f"unrecognized resource type: {resource}")
    if not rest:
        raise BadId(text, "bad length")
    if rest[0] != _VERSION:
        raise BadId(text, "unrecognized codec version")
    if resource not in wanted:
        raise BadId(text, "id doesn't match the expected type")
    return resource, rest[1:]


def parse_invocation_id(text: str) -> InvocationId:
    """Promises a well-formed invocation id; raises BadId otherwise."""
    _, digits = _split(text, frozenset({"inv"}))
    _parse_base62(text, digits, (8, 16))
    return InvocationId(text)


def parse_id(prefix: str, text: str) -> bytes:
    """The ULID of a resource id such as `dp_1…`; raises BadId otherwise."""
    _, digits = _split(text, frozenset({prefix}))
    return _parse_base62(text, digits, (16,))


def parse_awakeable_id(text: str) -> tuple[InvocationId, int]:
    """(invocation, index) of `sign_1…`, and of `prom_1…` from older journals; raises BadId otherwise."""
    kind, encoded = _split(text, _AWAKEABLE_TYPES)
    try:
        raw = b64decode(encoded.encode("ascii") + b"=" * (-len(encoded) % 4), b"-_", validate=True)
    except ValueError as error:
        raise BadId(text, _awakeable_reason(kind, "base62 decode error")) from error
    if len(raw) != _AWAKEABLE_BYTES:
        raise BadId(text, _awakeable_reason(kind, "bad length"))
    invocation = invocation_id(int.from_bytes(raw[:8], "big"), raw[8:24])
    return invocation, int.from_bytes(raw[24:], "big")


def _awakeable_reason(kind: str, reason: str) -> str:
    # What clients know from Restate: there the two kinds are tried in turn, and the second one answers.
    return reason if kind == "prom" else "id doesn't match the expected type"


# Choosing


def workflow_uuid(name: str, key: str, scope: str | None = None) -> bytes:
    """The uuid of the one run of this workflow key."""
    return _digest("wf", scope, name, key)


def idempotent_uuid(
    service: str, key: str | None, handler: str, idempotency_key: str, scope: str | None = None
) -> bytes:
    """The uuid all submissions with this idempotency key share."""
    if key is None:
        return _digest("ik", scope, service, handler, idempotency_key)
    return _digest("ik", scope, service, key, handler, idempotency_key)


def _digest(kind: str, scope: str | None, *parts: str) -> bytes:
    words = (kind, *parts) if scope is None else (kind, scope, *parts)
    return sha256(",".join(words).encode()).digest()[:16]


def partition_key(
    service: str,
    key: str | None,
    *,
    bucket: int,
    scope: str | None = None,
    idempotency_key: str | None = None,
) -> int:
    """The partition key of a new invocation: by scope, by object key, else spread over the service's buckets.

    An idempotency key chooses its bucket; only without one does the caller's random `bucket` count.
    """
    if scope is not None:
        return _hash(scope)
    if key is not None:
        return _hash(key)
    if idempotency_key is not None:
        bucket = _hash(idempotency_key) % BUCKETS
    return bucket_partition_key(service, bucket % BUCKETS)


@lru_cache(maxsize=16_384)
def bucket_partition_key(service: str, bucket: int) -> int:
    """The partition key of one of the BUCKETS of an unkeyed service."""
    return xxh3_64_intdigest(service.encode() + b"\xffunscoped/service\xff" + bucket.to_bytes(8, "little"))


def _hash(text: str) -> int:
    return xxh3_64_intdigest(text.encode() + b"\xff")


def ulid(timestamp_ms: int, randomness: bytes) -> bytes:
    """16 bytes that sort by time: 48 bits of milliseconds, 10 bytes of randomness."""
    if len(randomness) != 10:
        raise ValueError(f"a ULID takes 10 random bytes, not {len(randomness)}")
    return timestamp_ms.to_bytes(6, "big") + randomness


# Randomness of a handler

_MASK: Final = (1 << 64) - 1


def random_seed(invocation: InvocationId) -> int:
    """The seed of the handler's own random numbers, the same on each attempt (SipHash-1-3 of the raw id)."""
    data = (24).to_bytes(8, "little") + raw_invocation_id(invocation)
    v = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
    for at in range(0, 32, 8):
        v = _sip_absorb(v, int.from_bytes(data[at : at + 8], "little"))
    v = _sip_absorb(v, 32 << 56)
    v = (v[0], v[1], v[2] ^ 0xFF, v[3])
    for _ in range(3):
        v = _sip_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


_Words = tuple[int, int, int, int]


def _sip_absorb(v: _Words, word: int) -> _Words:
    mixed = _sip_round((v[0], v[1], v[2], v[3] ^ word))
    return (mixed[0] ^ word, mixed[1], mixed[2], mixed[3])


def _sip_round(v: _Words) -> _Words:
    v0, v1, v2, v3 = v
    v0 = (v0 + v1) & _MASK
    v1 = _rotate(v1, 13) ^ v0
    v0 = _rotate(v0, 32)
    v2 = (v2 + v3) & _MASK
    v3 = _rotate(v3, 16) ^ v2
    v0 = (v0 + v3) & _MASK
    v3 = _rotate(v3, 21) ^ v0
    v2 = (v2 + v1) & _MASK
    v1 = _rotate(v1, 17) ^ v2
    return v0, v1, _rotate(v2, 32), v3


def _rotate(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (64 - bits))) & _MASK
