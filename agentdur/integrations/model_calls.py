"""Model calls that a framework's own client makes: what `agentdur.llm` wants to know of them.

Rules of this file:
1. Budgets, limits and notes are those of `agentdur.llm`: an adapter brings a ModelClient, and no rule.
2. Models have the names of LiteLLM, `provider/model`, whatever a framework calls them: a limit or a price is
   that of the model, whoever asks it.
3. A framework's answer is journaled in the framework's form; what was found out beside it stands beside it.
   Journals of before that have the form alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec

from agentdur.llm.answer import ModelAnswer, Usage
from agentdur.llm.errors import SwitchImpossible
from agentdur.llm.litellm_client import price
from agentdur.sdk.serde import JsonSerde, Serde

Data: TypeAlias = dict[str, Any]
_COST, _USAGE = "agentdur.cost", "agentdur.usage"
_PROVIDERS = {
    "amazon_bedrock": "bedrock", "azure-responses": "azure", "azure_ai_openai": "azure",
    "azure_openai": "azure", "fireworks": "fireworks_ai", "google": "gemini", "google-cloud": "vertex_ai",
    "google-gla": "gemini", "google-vertex": "vertex_ai", "google_genai": "gemini",
    "google_vertexai": "vertex_ai", "mistralai": "mistral", "openai-chat": "openai",
    "openai-responses": "openai", "together": "together_ai",
}  # fmt: skip
"""Where frameworks say it otherwise than LiteLLM."""
_JSON: JsonSerde[Data] = JsonSerde()


def named(provider: str | None, model: str) -> str:
    """The model's name in LiteLLM's words."""
    prefix = _PROVIDERS.get(provider or "", provider or "")
    return model if not prefix or model.startswith(f"{prefix}/") else f"{prefix}/{model}"


def at_same_provider(known: str, wanted: str) -> str:
    """The provider's own name of the model to go on with; a name without a provider is one of its own.
    SwitchImpossible when it is another provider's: this client has no way there."""
    provider, slash, _ = known.partition("/")
    if not slash or "/" not in wanted:
        return wanted
    if not wanted.startswith(f"{provider}/"):
        raise SwitchImpossible(f"{known} cannot go on as {wanted}: it is another provider's", 500)
    return wanted.removeprefix(f"{provider}/")


def priced(answer: ModelAnswer, model: str) -> ModelAnswer:
    """The answer with what it cost, by the one list of prices; else what the framework knew."""
    usage = answer.usage
    cost = price(model, usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
    return answer if cost is None else msgspec.structs.replace(answer, cost=cost)


class FrameworkAnswer(Serde[ModelAnswer]):
    """An answer whose `message` is the framework's own data. `read`: what that data says about itself."""

    __slots__ = ("_read",)

    def __init__(self, read: Callable[[Data], ModelAnswer]) -> None:
        self._read = read

    def serialize(self, obj: ModelAnswer | None) -> bytes:
        if obj is None:
            return b""
        beside: Data = {} if obj.cost is None else {_COST: obj.cost}
        if obj.usage.guessed:
            beside[_USAGE] = msgspec.to_builtins(obj.usage)
        return _JSON.serialize({**obj.message, **beside} if beside else obj.message)

    def deserialize(self, buf: bytes) -> ModelAnswer | None:
        data = _JSON.deserialize(buf)
        if data is None:
            return None
        cost, usage = data.pop(_COST, None), data.pop(_USAGE, None)
        answer = self._read(data)
        known: Data = {} if usage is None else {"usage": msgspec.convert(usage, Usage)}
        return msgspec.structs.replace(answer, cost=answer.cost if cost is None else cost, **known)


def details(usage: Mapping[str, Any], name: str, part: str) -> int:
    """A number within one of usage's details, which may be missing."""
    return int((usage.get(name) or {}).get(part) or 0)
