"""What the admin application must be told, and the numbers it keeps."""

from __future__ import annotations

from msgspec import Struct

from agentdur.admin.signed_in import Sessions
from agentdur.core.access import Access
from agentdur.core.visitors import Visitors

API_VERSION_MIN = 2
API_VERSION_MAX = 4

FEATURES = (
    "vqueues", "vqueues_async_refill", "vqueues_migration_skip_completed", "vqueue_obsolete_cleanup",
    "scoped_virtual_objects", "scoped_state_table_migration", "scoped_promise_table_migration", "kafka_scope",
    "protocol_v7", "unique_random_seeds", "invoker_yield", "preflight_invocation_termination_retention",
)  # fmt: skip
"""Names clients look up; none of these is switched on here."""

LIST_LIMIT_DEFAULT = 100
LIST_LIMIT_MAX = 1000
"""Invocations of one page."""
CURSOR_MAX = 2**62
"""The largest number a list can be asked to go on after."""


class AdminSettings(Struct, frozen=True, kw_only=True):
    """`ingress_endpoint`: the address under which callers reach the ingress. `visitors`: which web pages may
    ask for changes."""

    ingress_endpoint: str = "http://127.0.0.1:8080/"
    version: str = "0"
    visitors: Visitors = Visitors()
    access: Access | None = None
    """Who may look and act; None: nobody is asked."""
    sessions: Sessions | None = None
    """Those who signed in at the web UI, as `access` knows them."""


DEFAULTS = AdminSettings()
