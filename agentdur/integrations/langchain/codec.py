"""Messages and commands as JSON, and back: what a step of LangChain journals.

Rules of this file:
1. A message keeps its class and everything the next request needs of it.
2. Control flow (an interrupt, a command) is data of the step, raised or returned again outside of it.
"""

from __future__ import annotations

from typing import Any, TypeAlias, cast

import msgspec
from langchain_core.load import dumpd, load
from langchain_core.messages import AnyMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.types import Command, Interrupt, Send
from pydantic import TypeAdapter

from agentdur.core.errors import NotSerializable
from agentdur.integrations.model_calls import details
from agentdur.llm.answer import ModelAnswer, Usage

_MESSAGES: TypeAdapter[list[AnyMessage]] = TypeAdapter(list[AnyMessage])
Data: TypeAlias = dict[str, Any]
ToolAnswer: TypeAlias = ToolMessage | Command[Any]


def message_data(message: BaseMessage) -> Data:
    """A message as JSON data."""
    (data,) = _MESSAGES.dump_python(cast("list[AnyMessage]", [message]), mode="json", exclude_none=True)
    return dict(data)


def message_of(data: Data) -> BaseMessage:
    """The message again."""
    (message,) = _MESSAGES.validate_python([data])
    return message


def result_data(result: ChatResult) -> Data:
    """An answer as JSON data."""
    return {
        "generations": [
            {"message": message_data(one.message), "info": one.generation_info or None}
            for one in result.generations
        ]
    }


def result_of(data: Data) -> ChatResult:
    """The answer again."""
    found = [
        ChatGeneration(message=message_of(one["message"]), generation_info=one.get("info"))
        for one in data["generations"]
    ]
    return ChatResult(generations=found)


def read(data: Data) -> ModelAnswer:
    """What an answer says about itself."""
    message = data["generations"][0]["message"] if data["generations"] else {}
    usage, about = message.get("usage_metadata") or {}, message.get("response_metadata") or {}
    return ModelAnswer(
        message=data,
        finish_reason=about.get("finish_reason") or about.get("stop_reason") or "",
        model=about.get("model_name") or about.get("model") or "",
        usage=Usage(
            prompt_tokens=usage.get("input_tokens") or 0,
            completion_tokens=usage.get("output_tokens") or 0,
            cached_tokens=details(usage, "input_token_details", "cache_read"),
            reasoning_tokens=details(usage, "output_token_details", "reasoning"),
        ),
        request_id=about.get("id") or "",
    )


def tool_data(answer: ToolAnswer) -> Data:
    """What a tool call came to. NotSerializable for a command that carries something without a JSON form."""
    if isinstance(answer, ToolMessage):
        return {"message": message_data(answer)}
    try:
        parts = {name: dumpd(getattr(answer, name)) for name in ("update", "resume", "graph")}
        goto = [_target_data(target) for target in _listed(answer.goto)]
        msgspec.json.encode((parts, goto))
    except (TypeError, ValueError) as error:
        raise NotSerializable(f"the Command of a tool: {error}") from error
    return {"command": {**parts, "goto": goto}}


def tool_answer(data: Data) -> ToolAnswer:
    """The message or the command again."""
    if "message" in data:
        return ToolMessage.model_validate(data["message"])
    parts = data["command"]
    update, resume, graph = (_loaded(parts[name]) for name in ("update", "resume", "graph"))
    return Command(update=update, resume=resume, graph=graph, goto=[_target_of(t) for t in parts["goto"]])


def interrupt_data(interrupts: Any) -> list[Data]:
    """Interrupts that were raised inside a step."""
    return [{"value": dumpd(one.value), "id": one.id} for one in interrupts]


def interrupts_of(data: list[Data]) -> list[Interrupt]:
    """The interrupts again."""
    return [Interrupt(value=_loaded(one["value"]), id=one["id"]) for one in data]


def _listed(goto: Any) -> list[Any]:
    if isinstance(goto, str | Send):
        return [goto]
    return list(goto)


def _target_data(target: Any) -> Any:
    return {"node": target.node, "arg": dumpd(target.arg)} if isinstance(target, Send) else target


def _target_of(data: Any) -> Any:
    return Send(data["node"], _loaded(data["arg"])) if isinstance(data, dict) else data


def _loaded(data: Any) -> Any:
    """LangChain's own JSON form, limited to messages: nothing else is built from the journal."""
    return load(data, allowed_objects="messages")
