"""How a model call of LangChain fails, in the words of `agentdur.llm`: a provider's HTTP answer is told by
its status, whatever the client; what is none (a bug, a broken connection) stays as it is, and is retried.
"""

from __future__ import annotations

from agentdur.core.errors import AgentdurError
from agentdur.llm.failures import failed_request
from agentdur.sdk.exceptions import RetryableError, TerminalError


def translated(model: str, error: Exception) -> Exception:
    """The error as one of ours."""
    status = getattr(error, "status_code", None)
    response = getattr(error, "response", None)
    if isinstance(error, TerminalError | RetryableError | AgentdurError):
        return error
    if not isinstance(status, int) or response is None:
        return error
    said = f"{type(error).__name__}: {error}"
    told = f"{getattr(error, 'body', '')} {error}"
    return failed_request(model, said, status, response.headers, told)
