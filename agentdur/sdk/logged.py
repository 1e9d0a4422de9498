"""Log lines of handlers: whose they are, and once only.

Rules of this file:
1. A line that a replay says again is left out: the code before the next new entry has run before.
2. What the action of a step logs is never left out: it runs because it has no result.
3. Lines of agentdur itself pass, whatever runs.
"""

from __future__ import annotations

import logging

from agentdur.core.trace import trace_of
from agentdur.sdk.branch import Branch, current_branch
from agentdur.sdk.traced import span_at

OURS = "agentdur"


class HandlerLines(logging.Filter):
    """For a `logging.Handler`: lines logged in a handler, or in what it calls, get the attributes
    `invocation`, `handler`, `attempt`, and `trace_id` and `span_id` when they are traced; lines of replayed
    code are left out."""

    def filter(self, record: logging.LogRecord) -> bool:
        """False: leave it out."""
        branch = current_branch()
        if branch is None or branch.attempt is None:
            return True
        ours = record.name == OURS or record.name.startswith(f"{OURS}.")
        if not ours and replaying(branch):
            return False
        facts = facts_of(branch)
        record.facts = facts
        record.__dict__.update(facts)
        return True


def replaying(branch: Branch) -> bool:
    """Whether the code that runs in it has run before: it, or what it is part of, has recorded entries
    left."""
    if branch.in_step:
        return False
    at: Branch | None = branch
    while at is not None:
        if at.recorded:
            return True
        at = at.parent
    return False


def facts_of(branch: Branch) -> dict[str, str | int]:
    """Whose code it is."""
    attempt = branch.attempt
    facts: dict[str, str | int] = {
        "invocation": attempt.id,
        "handler": str(attempt.target),
        "attempt": attempt.number,
    }
    if attempt.traced is not None and attempt.traced.traceparent:
        facts["trace_id"] = trace_of(attempt.traced.traceparent, attempt.id)
        facts["span_id"] = span_at(branch)
    return facts
