"""Trace contexts (W3C): which trace an invocation belongs to, and what its spans are called.

Rules of this file:
1. Trace and span ids are computed, never drawn: from the invocation's id and the completion id of an entry.
   So every attempt, every process and every re-sent span says the same.
2. An invocation that is traced has a `traceparent`: the context of the span above its own, or only the flags
   when there is none; an empty one means that nobody traces. Flags say whether spans leave, and go along to
   all it calls. Only flags are the same for many rows of a commit, which makes them cheap to store.
"""

from __future__ import annotations

import re
from typing import Final

from xxhash import xxh3_64_hexdigest, xxh3_128_hexdigest

from agentdur.core.ids import InvocationId

HEADER: Final = "traceparent"
STATE_HEADER: Final = "tracestate"
ROOT: Final = "01"
"""The traceparent of an invocation that begins a trace."""
ROOT_UNSAMPLED: Final = "00"
"""As ROOT, of a trace that does not leave."""

_HEADER = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_FLAGS_LENGTH = 2


def inbound(header: str) -> str:
    """The context that a caller sent, as version 00; empty when it is none."""
    found = _HEADER.fullmatch(header.strip())
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return ""
    if found[2] == "0" * 32 or found[3] == "0" * 16:
        return ""
    return f"00-{found[2]}-{found[3]}-{int(found[4], 16) & 1:02x}"


def is_sampled(traceparent: str) -> bool:
    """Whether spans of it leave."""
    return traceparent[-1:] == "1"


def trace_of(traceparent: str, invocation: InvocationId) -> str:
    """The trace id of a traced invocation, 32 hexadecimal digits."""
    if len(traceparent) > _FLAGS_LENGTH:
        return traceparent[3:35]
    return xxh3_128_hexdigest(invocation.encode())


def parent_of(traceparent: str) -> str:
    """The id of the span above, 16 hexadecimal digits; empty when there is none."""
    return traceparent[36:52]


def span_of(invocation: InvocationId) -> str:
    """The id of an invocation's span, 16 hexadecimal digits."""
    return xxh3_64_hexdigest(invocation.encode())


def span_of_entry(invocation: InvocationId, completion: int) -> str:
    """The id of the span of the entry that owns this completion id."""
    return xxh3_64_hexdigest(f"{invocation}/{completion}".encode())


def below_entry(traceparent: str, invocation: InvocationId, completion: int) -> str:
    """The context of what an entry of this invocation causes; `traceparent` is the invocation's own."""
    return (
        f"00-{trace_of(traceparent, invocation)}-{span_of_entry(invocation, completion)}-{traceparent[-2:]}"
    )


def below(traceparent: str, invocation: InvocationId) -> str:
    """The context of what this invocation causes elsewhere."""
    return f"00-{trace_of(traceparent, invocation)}-{span_of(invocation)}-{traceparent[-2:]}"
