"""What goes along with every call: the budgets that bind whoever is called, and whoever that calls.

Rules of this file:
1. It travels in a header, so that it also reaches handlers that run elsewhere; it says the same on every
   attempt.
2. What an invocation was called under holds for the calls it makes, unless its code says more.
3. An invocation begins in whatever context its engine happens to be in: what is said here holds for the
   attempt that said it, and for no other.
4. From outside nobody is called under a budget, whatever is sent along. Our ingress takes the header away;
   that of a Restate server does not, but says of each request that it came from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from agentdur.core.journal import Headers
from agentdur.sdk.attempt import Attempt
from agentdur.sdk.branch import current_branch

BUDGETS = "x-agentdur-budgets"
FROM_OUTSIDE = "x-restate-ingress-path"
"""An ingress puts it before a request's own headers; a call between handlers has it if code passes it on."""
_OWN: ContextVar[tuple[object, str] | None] = ContextVar("agentdur_along", default=None)
_INTERNAL = "agentdur."


@contextmanager
def along(budgets: str) -> Iterator[None]:
    """Calls made within the block carry this."""
    branch = current_branch()
    token = _OWN.set((None if branch is None else branch.attempt, budgets))
    try:
        yield
    finally:
        _OWN.reset(token)


def inherited(headers: Headers) -> str | None:
    """What an invocation was called under."""
    said = None
    for name, value in headers:
        if name == FROM_OUTSIDE:
            return None
        if name == BUDGETS and said is None:
            said = value
    return said


def with_along(attempt: Attempt, service: str, headers: Headers) -> Headers:
    """The headers of a call that this attempt makes, with what goes along."""
    own, called_with = _OWN.get(), attempt.recorded.input.headers
    said = own[1] if own is not None and own[0] is attempt else None
    if said is None and called_with:
        said = inherited(called_with)
    if said is None or service.startswith(_INTERNAL):
        return headers
    passed_on = (pair for pair in headers if pair[0].lower() not in (BUDGETS, FROM_OUTSIDE))
    return (*passed_on, (BUDGETS, said))
