"""How a model call of the SDK fails: what is worth another try, and what is not.

Rules of this file:
1. The same words as in agentdur.llm: retryable are no connection, no answer in time, 408, 409, 429, 5xx, and
   an answer that cannot be read; terminal are other 4xx, a spent quota, and an answer that was cut off: the
   next one would be as long.
2. Errors are told by the classes of the `openai` client; those of other clients by their status, if any.
"""

from __future__ import annotations

import openai
from agents.exceptions import ModelBehaviorError, UserError

from agentdur.core.errors import AgentdurError
from agentdur.llm.errors import BadModelAnswer, ModelBusy, ModelTimeout, ModelUnavailable
from agentdur.llm.failures import failed_request, refused
from agentdur.sdk.exceptions import RetryableError, TerminalError
from agentdur.sdk.providers import retry_after


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
    if isinstance(error, ModelBehaviorError) and "`response.incomplete`" in str(error):
        return refused(model, said, 422, "content_filter" if "content_filter" in str(error) else "length")
    if isinstance(error, openai.APIResponseValidationError | ModelBehaviorError):
        return BadModelAnswer(said, 502)
    if isinstance(error, openai.APIError):  # a failure told in the middle of a stream
        return _of_code(said, model, error)
    if isinstance(error, UserError):  # the request cannot be made of these settings
        return refused(model, said, 400)
    return error


def _of_status(said: str, model: str, status: int, error: Exception) -> Exception:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    told = f"{getattr(error, 'body', '')} {error}"
    if "conversation_locked" in told:  # another request on the same conversation is not over yet
        return ModelUnavailable(said, status, retry_after(headers))
    return failed_request(model, said, status, headers, told)


def _of_code(said: str, model: str, error: openai.APIError) -> Exception:
    if error.code in ("insufficient_quota", "invalid_api_key", "model_not_found", "context_length_exceeded"):
        return refused(model, said, 400)
    return ModelBusy(said, 429) if error.code == "rate_limit_exceeded" else ModelUnavailable(said, 502)
