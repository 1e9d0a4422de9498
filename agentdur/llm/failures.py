"""A provider's HTTP answer, as one of our errors: what is worth another try, what ends the call.

Rules of this file:
1. Whether it is worth another try, and when, is `agentdur.sdk.providers`' rule; here it gets its class.
2. A 429 with a time to wait costs no attempt; without one, the policy backs off.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from agentdur.llm.errors import ModelBusy, ModelRefused, ModelUnavailable
from agentdur.llm.request import PATIENCE
from agentdur.sdk.providers import retry_after, worth_another_try

_REASONS = {401: "auth", 403: "forbidden", 404: "unknown_model", 429: "quota"}


def failed_request(
    model: str, said: str, status: int, headers: Mapping[str, str], told: str = "", *, reason: str = ""
) -> ModelUnavailable | ModelRefused:
    """The failure of a request that was answered with this status. `told`: the error's text and body;
    `reason`: why it was refused, when it is known."""
    if not worth_another_try(status, headers, told):
        return refused(model, said, status, reason)
    return unavailable(said, status, retry_after(headers))


def unavailable(said: str, status: int, wait: timedelta | None) -> ModelUnavailable:
    """A failure that is worth another try, after the wait that was asked for."""
    if status == 429:
        return ModelBusy(said, 429, wait, patience=None if wait is None else PATIENCE)
    return ModelUnavailable(said, status, wait)


def refused(model: str, said: str, status: int, reason: str = "") -> ModelRefused:
    """A refusal for good."""
    return ModelRefused(said, status, {"model": model, "reason": reason or _REASONS.get(status, "invalid")})
