"""The limits of the ingress, each with its unit."""

from __future__ import annotations

from msgspec import Struct

MIB = 1024 * 1024


class IngressSettings(Struct, frozen=True, kw_only=True):
    """`concurrent_requests_max` None: as many as come."""

    request_bytes_max: int = 32 * MIB
    concurrent_requests_max: int | None = None
    disconnect_check_ms: int = 5_000
    """A request that waits longer than this is watched: when its client leaves, the wait ends."""


DEFAULTS = IngressSettings()
