"""The limits of the ingress, each with its unit."""

from __future__ import annotations

from msgspec import Struct

from agentdur.core.access import Access
from agentdur.core.visitors import Visitors

MIB = 1024 * 1024


class IngressSettings(Struct, frozen=True, kw_only=True):
    """`concurrent_requests_max` None: as many as come. `visitors`: which web pages may ask; in the reference,
    all may."""

    request_bytes_max: int = 32 * MIB
    concurrent_requests_max: int | None = None
    disconnect_check_ms: int = 5_000
    """A request that waits longer than this is watched: when its client leaves, the wait ends."""
    stream_heartbeat_ms: int = 15_000
    """A stream that has nothing to say says so this often."""
    stream_stall_ms: int = 30_000
    """A stream whose client takes nothing for so long is cut."""
    visitors: Visitors = Visitors(origins=None)
    access: Access | None = None
    """Who may use the guests in `guarded`; None: nobody is asked."""
    guarded: frozenset[str] = frozenset()


DEFAULTS = IngressSettings()
