"""Model answers of the SDK as JSON, and back.

Rules of this file:
1. Only what was set is written: an answer that comes back with every field set would send the others as null
   with the next request.
2. Both ways are tried before an answer is journaled: what cannot come back is no step's result.
"""

from __future__ import annotations

from typing import Any

from agents.items import ModelResponse
from openai.types.responses import Response
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from agentdur.integrations.runs import UnjournaledAnswer

_RESPONSE: TypeAdapter[ModelResponse] = TypeAdapter(ModelResponse)
_STREAMED: TypeAdapter[Response] = TypeAdapter(Response)
_RAW_USAGE = "_agents_sdk_raw_usage"
_ECHOED = ("instructions", "metadata", "prompt", "text", "prompt_cache_key", "safety_identifier", "user")
"""What a response repeats of its request. It would grow the journal with each turn, and is known."""


def dump_answer(answer: ModelResponse) -> Any:
    """An answer as JSON data."""
    return _checked(_RESPONSE, answer)


def load_answer(data: Any) -> ModelResponse:
    """The answer that was dumped."""
    return _RESPONSE.validate_python(data)


def dump_response(response: Response) -> dict[str, Any]:
    """The last response of a stream as JSON data, without what it repeats of its request."""
    slim = response.model_copy(update={"tools": [], "tool_choice": "auto"})
    data = _checked(_STREAMED, slim)
    kept: dict[str, Any] = {name: value for name, value in data.items() if name not in _ECHOED}
    more = {
        "request_id": getattr(response, "_request_id", None),
        "raw_usage": getattr(response, _RAW_USAGE, None),
    }
    return {"response": kept, **{name: value for name, value in more.items() if value is not None}}


def load_response(data: dict[str, Any]) -> Response:
    """The response that was dumped."""
    response = _STREAMED.validate_python(data["response"])
    response._request_id = data.get("request_id")
    if "raw_usage" in data:
        object.__setattr__(response, _RAW_USAGE, data["raw_usage"])
    return response


def _checked(adapter: TypeAdapter[Any], value: Any) -> Any:
    try:
        data = adapter.dump_python(value, mode="json", exclude_unset=True, by_alias=True, warnings=False)
        again = adapter.dump_python(
            adapter.validate_python(data), mode="json", exclude_unset=True, by_alias=True, warnings=False
        )
    except (ValidationError, PydanticSerializationError) as error:
        raise UnjournaledAnswer(str(error)).ending() from error
    if again != data:
        raise UnjournaledAnswer("it would come back as something else").ending()
    return data
