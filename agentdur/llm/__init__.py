"""Model calls that are journaled: asked once, paid once, replayed for nothing.

    answer = await completion(ctx, "openai/gpt-5-mini", messages, tools=[search])

Importing this package imports LiteLLM when it is installed, which takes a while: at start-up, where it
belongs, and not in the first call.
"""

from agentdur.core.book import Amounts
from agentdur.llm.answer import ModelAnswer, ToolCall, Usage
from agentdur.llm.budget import Budget, budget
from agentdur.llm.completion import completion
from agentdur.llm.errors import (
    AnswerMisfit,
    BadModelAnswer,
    BudgetExceeded,
    BudgetNotShared,
    BudgetOutOfReach,
    ModelBusy,
    ModelError,
    ModelFailed,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    PriceUnknown,
    SwitchImpossible,
)
from agentdur.llm.limiter import limits
from agentdur.llm.request import Timeouts

__all__ = [
    "Amounts",
    "AnswerMisfit",
    "BadModelAnswer",
    "Budget",
    "BudgetExceeded",
    "BudgetNotShared",
    "BudgetOutOfReach",
    "ModelAnswer",
    "ModelBusy",
    "ModelError",
    "ModelFailed",
    "ModelRefused",
    "ModelTimeout",
    "ModelUnavailable",
    "PriceUnknown",
    "SwitchImpossible",
    "Timeouts",
    "ToolCall",
    "Usage",
    "budget",
    "completion",
    "limits",
]
