"""How a model call of ADK fails: what is worth another try, and what is not.

Rules of this file:
1. The same words as in agentdur.llm; what a status means is agentdur's one rule.
2. Errors are told by the classes of google-genai and LiteLLM; those of other clients by their status, if any.
"""

from __future__ import annotations

import json

import httpx
from google.genai import errors as genai

from agentdur.core.errors import AgentdurError
from agentdur.llm.errors import BadModelAnswer, ModelTimeout, ModelUnavailable
from agentdur.llm.failures import failed_request
from agentdur.llm.litellm_client import installed
from agentdur.llm.litellm_client import translated as of_litellm
from agentdur.sdk.exceptions import RetryableError, TerminalError

_NETWORK = ("ClientConnectionError", "ClientPayloadError", "TransportError")
"""Of aiohttp and httpx2, either of which google-genai may use."""


def translated(model: str, error: Exception) -> Exception:
    """The error as one of ours; what is no failed request (a bug) stays as it is, and is retried."""
    if isinstance(error, RetryableError | TerminalError | AgentdurError):
        return error
    said = f"{model}: {error}"
    if isinstance(error, genai.APIError):
        headers = getattr(error.response, "headers", None) or {}
        return failed_request(model, said, error.code, headers, str(error.details))
    if isinstance(error, genai.UnknownApiResponseError | json.JSONDecodeError):
        return BadModelAnswer(said, 502)
    if isinstance(error, httpx.TimeoutException) or _is(error, "TimeoutException", "ServerTimeoutError"):
        return ModelTimeout(said, 504)
    if isinstance(error, httpx.TransportError) or _is(error, *_NETWORK):
        return ModelUnavailable(said, 503)
    if installed():
        return of_litellm(model, error)
    status = getattr(error, "status_code", None)
    if not isinstance(status, int):
        return error
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    return failed_request(model, said, status, headers, f"{getattr(error, 'body', '')} {error}")


def _is(error: Exception, *names: str) -> bool:
    return any(kind.__name__ in names for kind in type(error).__mro__)
