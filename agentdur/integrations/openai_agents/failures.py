"""How a model call of the SDK fails: what is worth another try, and what is not.

Rules of this file:
1. The same words as in agentdur.llm: retryable are no connection, no answer in time, 408, 409, 429, 5xx, and
   an answer that cannot be read; terminal are other 4xx and a spent quota.
2. Errors are told by the classes of the `openai` client; those of other clients by their status, if any.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import openai
from agents.exceptions import ModelBehaviorError, UserError

from agentdur.core.errors import AgentdurError
from agentdur.llm.errors import BadModelAnswer, ModelBusy, ModelRefused, ModelTimeout, ModelUnavailable
from agentdur.llm.request import PATIENCE
from agentdur.sdk.exceptions import RetryableError, TerminalError

_RETRIED = frozenset({408, 409, 429})


def translated(model: str, error: Exception) -> Exception:
    """The error as one of ours; what is no failed request (a bug) stays as it is, and is retried."""
    if isinstance(error, RetryableError | TerminalError | AgentdurError):
        return error
    said = f"{model}: {error}" if model else str(error)
    if isinstance(error, openai.APITimeoutError):
        return ModelTimeout(said, 504)
    if isinstance(error, openai.APIConnectionError):
        return ModelUnavailable(said, 503)
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return _of_status(said, model, status, error)
    if isinstance(error, openai.APIResponseValidationError | ModelBehaviorError):
        return BadModelAnswer(said, 502)
    if isinstance(error, openai.APIError):  # a failure told in the middle of a stream
        return _of_code(said, model, error)
    if isinstance(error, UserError):  # the request cannot be made of these settings
        return refused(model, said, 400)
    return error


def refused(model: str, said: str, status: int) -> ModelRefused:
    """A refusal for good."""
    reasons = {401: "auth", 403: "forbidden", 404: "unknown_model", 429: "quota"}
    return ModelRefused(said, status, {"model": model, "reason": reasons.get(status, "invalid")})


def restored(error: TerminalError) -> TerminalError:
    """A refusal from the journal, as the class it had."""
    if ModelRefused.is_one(error) and not isinstance(error, ModelRefused):
        return ModelRefused(error.message, error.status_code, error.metadata)
    return error


def _of_status(said: str, model: str, status: int, error: Exception) -> Exception:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    if not _worth_another_try(error, status, headers):
        return refused(model, said, status)
    if status == 429:
        wait = retry_after(headers)  # with a time to wait it costs no attempt
        return ModelBusy(said, status, wait, patience=None if wait is None else PATIENCE)
    return ModelUnavailable(said, status, retry_after(headers))


def _of_code(said: str, model: str, error: openai.APIError) -> Exception:
    if error.code in ("insufficient_quota", "invalid_api_key", "model_not_found", "context_length_exceeded"):
        return refused(model, said, 400)
    return ModelBusy(said, 429) if error.code == "rate_limit_exceeded" else ModelUnavailable(said, 502)


def _worth_another_try(error: Exception, status: int, headers: Any) -> bool:
    said = headers.get("x-should-retry")
    if said in ("true", "false"):
        return bool(said == "true")
    if "conversation_locked" in f"{getattr(error, 'body', '')}":
        return True  # another request on the same conversation is not over yet
    if status == 429:
        return "insufficient_quota" not in f"{getattr(error, 'body', '')} {error}"
    return status in _RETRIED or status >= 500


def retry_after(headers: Any) -> timedelta | None:
    """Retry-After in its three spellings: milliseconds, seconds, a date."""
    try:
        if headers.get("retry-after-ms"):
            return timedelta(milliseconds=float(headers["retry-after-ms"]))
        text = headers.get("retry-after") or ""
        if not text:
            return None
        if text.replace(".", "", 1).isdigit():
            return timedelta(seconds=float(text))
        return max(timedelta(0), parsedate_to_datetime(text) - datetime.now(UTC))
    except (ValueError, TypeError, OverflowError):
        return None  # a header nobody can read asks for nothing
