"""What steps of an ADK run journal, as JSON and back: model responses, tool results, actions.

Rules of this file:
1. A response is written whole and comes back equal, thought signatures included; otherwise it is no step's
   result.
2. JSON values of a tool come back as they were, ADK's media parts as parts; anything else as what pydantic
   makes of it, or as its text, which is all the model would have seen of it.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from google.adk.events.event_actions import EventActions
from google.adk.models.llm_response import LlmResponse
from google.genai import types
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from agentdur.integrations.runs import UnjournaledAnswer, is_json

Data: TypeAlias = dict[str, Any]
_OWN: dict[str, type[BaseModel]] = {"part": types.Part, "response": types.FunctionResponse}


def plain(model: BaseModel) -> Data:
    """A pydantic object of ADK as JSON data, without what is not set."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True, warnings=False)


def dump_response(response: LlmResponse) -> Data:
    """An answer as JSON data; raises what ends the invocation when it would come back as something else."""
    try:
        data = plain(response)
        again = plain(load_response(data))
    except (ValidationError, PydanticSerializationError) as error:
        raise UnjournaledAnswer(str(error)).ending() from error
    if again != data:
        raise UnjournaledAnswer("it would come back as something else").ending()
    return data


def load_response(data: Data) -> LlmResponse:
    """The answer that was dumped."""
    return LlmResponse.model_validate(data)


def dump_result(value: Any) -> Data:
    """What a tool returned, as tagged JSON data."""
    if is_json(value):
        return {"json": value}
    for tag, kind in _OWN.items():
        if isinstance(value, kind):
            return {tag: plain(value)}
    if isinstance(value, dict):
        return {"dict": {str(name): dump_result(item) for name, item in value.items()}}
    if isinstance(value, list | tuple):
        return {"list": [dump_result(item) for item in value]}
    try:
        return {"json": to_jsonable_python(value)}
    except (PydanticSerializationError, ValueError, RecursionError):
        return {"json": str(value)}


def load_result(data: Data) -> Any:
    """The value that was dumped."""
    for tag, kind in _OWN.items():
        if tag in data:
            return kind.model_validate(data[tag])
    if "dict" in data:
        return {name: load_result(item) for name, item in data["dict"].items()}
    if "list" in data:
        return [load_result(item) for item in data["list"]]
    return data["json"]


def dump_actions(actions: EventActions) -> Data:
    """What a tool did to its context, as JSON data."""
    return actions.model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude_defaults=True, warnings=False
    )


def redo(context: Any, data: Data) -> None:
    """Do to a tool's context what `dump_actions` told: state first, so that others see it."""
    told = EventActions.model_validate(data)
    for name in told.model_fields_set:
        value = getattr(told, name)
        if name == "state_delta":
            for key, written in value.items():
                context.state[key] = written
        else:
            setattr(context._event_actions, name, value)
