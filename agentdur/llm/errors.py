"""How a model call fails: what is worth another try, and what is not.

Rules of this file:
1. Worth another try: no connection, no answer in time, 408, 409, 429, 5xx, an answer that cannot be read.
2. Not worth it: other 4xx, a spent quota. These end the invocation unless the handler catches them.
3. What is journaled as a step's failure comes back as the same class: `revived` finds it by its code.
"""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from agentdur.sdk.exceptions import RetryableError, TerminalError

CODE = "agentdur_code"


class ModelError(TerminalError):
    """Base of what ends a model call for good."""

    code: ClassVar[str] = ""

    def __init__(self, message: str, status_code: int = 500, metadata: dict[str, str] | None = None) -> None:
        super().__init__(message, status_code, {**(metadata or {}), CODE: self.code})

    @property
    def facts(self) -> dict[str, str]:
        """What is told beside the message."""
        return self.metadata or {}


class ModelRefused(ModelError):
    """The provider refuses this request for good. Mend the key or the request, or name fallback models."""

    code = "AD0100"
    KIND = "model_refused"

    def __init__(self, message: str, status_code: int = 500, metadata: dict[str, str] | None = None) -> None:
        super().__init__(message, status_code, {**(metadata or {}), "kind": self.KIND})

    @property
    def reason(self) -> str:
        """`unknown_model`, `context_window`, `quota`, `forbidden`, `auth` or `invalid`; `length` or
        `content_filter` where the OpenAI Agents SDK refuses an answer that was cut off."""
        return self.facts.get("reason", "invalid")

    @property
    def for_this_model(self) -> bool:
        """True when another model may well take the same request."""
        return self.reason in ("unknown_model", "context_window", "quota", "forbidden")

    @classmethod
    def is_one(cls, error: TerminalError) -> bool:
        """True for a refusal, also when it comes from the journal."""
        return (error.metadata or {}).get("kind") == cls.KIND


class ModelFailed(ModelError):
    """No answer after all tries that the call's options allow. Try later, allow more tries, or name fallback
    models."""

    code = "AD0101"


class BudgetExceeded(ModelError):
    """A budget is used up. Raise its limit, or let it ask a person or go on with a cheaper model."""

    code = "AD0102"


class AnswerMisfit(ModelError):
    """The answer does not fit the type that was asked for. Simplify the type, or allow more repairs."""

    code = "AD0103"


class PriceUnknown(ModelError):
    """A budget in money cannot bind a model without a price. Register it with LiteLLM, or count tokens."""

    code = "AD0104"


class BudgetNotShared(ModelError):
    """The caller's budget counts only its own calls. Share it: `Budget(…, shared=True)`."""

    code = "AD0105"


class ModelUnavailable(RetryableError):
    """The provider could not be reached, or could not answer. The call is made again by the retry policy."""

    code: ClassVar[str] = "AD0106"

    def __init__(
        self,
        message: str,
        status_code: int = 503,
        retry_after: timedelta | None = None,
        *,
        patience: timedelta | None = None,
    ) -> None:
        super().__init__(message, status_code, retry_after)
        self.metadata = {CODE: ModelFailed.code, "failure": type(self).__name__}
        if patience is not None:
            self.counted, self.patience = False, patience


class ModelBusy(ModelUnavailable):
    """The provider asks for patience (429). The next attempt waits as long as it asked for."""

    code = "AD0107"


class ModelTimeout(ModelUnavailable):
    """No whole answer came in time. The call is made again; give it more time if this happens often."""

    code = "AD0108"


class BadModelAnswer(ModelUnavailable):
    """An answer came that is none: no JSON, no choice, or an end without a reason. The call is made again."""

    code = "AD0109"


class SwitchImpossible(ModelError):
    """A budget or a fork wants another model, which this agent's client cannot ask. Name one that it can."""

    code = "AD0110"


class BudgetOutOfReach(ModelError):
    """A budget that asks a person, or is shared, cannot bind what a step asks. Let the tool run inline."""

    code = "AD0111"


class EditImpossible(ModelError):
    """A fork edits what a framework's own client tells its model. Edit the input or a result instead."""

    code = "AD0112"


_ENDINGS = (
    ModelRefused, ModelFailed, BudgetExceeded, AnswerMisfit, PriceUnknown, BudgetNotShared, SwitchImpossible,
    BudgetOutOfReach, EditImpossible,
)  # fmt: skip
_ENDS: dict[str, type[ModelError]] = {kind.code: kind for kind in _ENDINGS}


def revived(error: TerminalError) -> TerminalError:
    """A failure of a model step with its class: from the journal it comes without."""
    facts = error.metadata or {}
    kind = _ENDS.get(facts.get(CODE, ""))
    if kind is None and ModelRefused.is_one(error):  # journaled before refusals had a code
        kind = ModelRefused
    return error if kind is None else kind(error.message, error.status_code, dict(facts))
