"""How a model call fails: what is worth another try, and what is not.

Rules of this file:
1. Worth another try: no connection, no answer in time, 408, 409, 429, 5xx, an answer that cannot be read.
2. Not worth it: other 4xx, a spent quota. These end the invocation unless the handler catches them.
"""

from __future__ import annotations

from agentdur.sdk.exceptions import RetryableError, TerminalError


class ModelUnavailable(RetryableError):
    """The provider could not be reached, or could not answer. The call is made again by the retry policy."""


class ModelBusy(ModelUnavailable):
    """The provider asks for patience (429). The next attempt waits as long as it asked for."""


class ModelTimeout(ModelUnavailable):
    """No whole answer came within the call's timeout."""


class BadModelAnswer(ModelUnavailable):
    """An answer came that is no answer: no JSON, or no choice in it."""


class ModelRefused(TerminalError):
    """The provider refuses this request for good: bad key, unknown model, invalid request, spent quota, too
    long a conversation. Asking again would not help."""

    KIND = "model_refused"

    @classmethod
    def is_one(cls, error: TerminalError) -> bool:
        """True for a refusal, also when it comes from the journal."""
        return (error.metadata or {}).get("kind") == cls.KIND
