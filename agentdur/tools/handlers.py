"""Handlers as tools: of this process, or of any deployment that the server knows, in any language.

Rules of this file:
1. A call to a handler happens exactly once: it needs no step, and no key of its own.
2. What the handler takes is what the model is told; what does not fit is told to the model before the call.
3. A handler that fails for good fails towards the model, unless its failure shall end the invocation.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

import msgspec

from agentdur.core.errors import BadDefinition, BadRequest
from agentdur.sdk.branch import current_branch
from agentdur.sdk.exceptions import TerminalError
from agentdur.sdk.schema import json_schema
from agentdur.sdk.serde import Serde, serde_for
from agentdur.sdk.service import handler_of
from agentdur.sdk.step import current_context
from agentdur.tools.schema import description_of
from agentdur.tools.text import Misfit, ToolError
from agentdur.tools.tool import Approve, Predicate, Tool, check_name, rule_of

INPUT = "input"
"""The parameter of a handler whose input is no object."""


def handler_tool(
    handler: Callable[..., Awaitable[Any]] | str,
    *,
    name: str = "",
    description: str = "",
    input: Any = None,
    key: str = "",
    timeout: timedelta | None = None,
    approval: bool | Predicate | Approve | None = None,
    terminal: bool = False,
) -> Tool:
    """A handler as a tool: its function, or `"Service/handler"` with the type of its `input` (none: it takes
    nothing). Of a virtual object or workflow, `key` names the parameter by which the model says the key.
    `timeout`: then the call is cancelled, and the model told. `terminal`: the handler's TerminalError ends
    the invocation instead of being told to the model."""
    to, takes, serde, about = _about(handler, input, keyed=bool(key))
    label = name or to[1]
    check_name(label)
    schema, wrapped = _schema(takes, key, to)

    def read(text: str) -> Mapping[str, Any]:
        given = _object(text)
        _checked(given, key, wrapped, serde)
        return given

    async def function(**arguments: Any) -> Any:
        target = arguments.pop(key) if key else None
        data = _data(arguments, wrapped, serde)
        branch = current_branch()
        assert branch is not None
        cancels = branch.cancels_seen
        try:
            return await _called(to, data, target, timeout)
        except TerminalError as error:
            if terminal or branch.cancels_seen != cancels:  # it was this invocation that was cancelled
                raise
            raise ToolError(error.message) from error

    return Tool(
        function=function, name=label, description=description or description_of(about), schema=schema,
        reader=read, inline=True, approval=rule_of(approval),
    )  # fmt: skip


async def _called(to: tuple[str, str], data: bytes, key: str | None, timeout: timedelta | None) -> Any:
    context = current_context()
    calling = context.generic_call(*to, data, key)
    if timeout is None:
        answer = await calling
    else:
        late = context.sleep(timeout, name=f"timeout:{'/'.join(to)}")
        first, answer = await context.select(answer=calling, late=late)
        if first == "late":
            await calling.cancel_invocation()
            raise ToolError(f"no answer within {timeout}")
    return None if not answer else _read(answer)


def _read(answer: bytes) -> Any:
    try:
        return msgspec.json.decode(answer)
    except msgspec.DecodeError:
        return answer.decode("utf-8", "replace")


def _about(
    handler: Callable[..., Awaitable[Any]] | str, input: Any, *, keyed: bool
) -> tuple[tuple[str, str], Any, Serde[Any] | None, str]:
    """((service, handler), the type it takes or None, how that is written, its docstring)."""
    if isinstance(handler, str):
        service, slash, called = handler.rpartition("/")
        if not slash or not service or not called:
            raise BadDefinition(f"{handler!r} is no handler: write 'Service/handler'")
        return (service, called), input, None if input is None else serde_for(input), ""
    if input is not None:
        raise BadDefinition(f"{handler!r}: its annotations say what it takes")
    found = handler_of(handler)
    if (found.service.service_kind.value != "Service") is not keyed:
        raise BadDefinition(
            f"{found.place}: `key` names the parameter with the key of an object or workflow, "
            "and a plain service has none"
        )
    to = (found.service.name, found.name)
    if not found.takes_input:
        return to, None, None, inspect.getdoc(found.fn) or ""
    found.resolve()
    return to, found._input_hint, found.input_serde, inspect.getdoc(found.fn) or ""


def _schema(takes: Any, key: str, to: tuple[str, str]) -> tuple[dict[str, Any], bool]:
    """(what the model is told, whether the input is a parameter of its own)."""
    made = None if takes is None else (json_schema(takes) or {})
    schema: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
    wrapped = False
    if made is not None:
        definitions = made.pop("$defs", {})
        reference = made.get("$ref", "")
        root = definitions.get(reference.rpartition("/")[2], made) if reference else made
        wrapped = root.get("type") != "object" or "properties" not in root
        if wrapped:
            schema |= {"properties": {INPUT: made}, "required": [INPUT]}
        else:
            schema |= {name: value for name, value in root.items() if name != "title"}
        if definitions:
            schema["$defs"] = definitions
    if key:
        if key in schema["properties"]:
            raise BadDefinition(
                f"{'/'.join(to)}: the input has a field '{key}' already; name the key otherwise"
            )
        about = {"type": "string", "description": f"which {to[0]}"}
        schema["properties"] = {key: about, **schema["properties"]}
        schema["required"] = [key, *schema.get("required", [])]
    return schema, wrapped


def _object(text: str) -> dict[str, Any]:
    try:
        given = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise Misfit(f"Invalid JSON: {error}") from error
    if not isinstance(given, dict):
        raise Misfit("Input should be an object")
    return given


def _checked(given: Mapping[str, Any], key: str, wrapped: bool, serde: Serde[Any] | None) -> None:
    if key and not isinstance(given.get(key), str):
        raise Misfit(f"{key}: a text is required")
    rest = {name: value for name, value in given.items() if name != key}
    if wrapped and set(rest) != {INPUT}:
        raise Misfit(f"{INPUT}: Field required, and nothing else")
    if serde is None and rest:
        raise Misfit(f"{', '.join(sorted(rest))}: nothing of that kind is taken")
    _data(rest, wrapped, serde)


def _data(rest: Mapping[str, Any], wrapped: bool, serde: Serde[Any] | None) -> bytes:
    """The input's bytes, as the handler's own types write it; Misfit when they do not take it."""
    if serde is None:
        return b""
    raw = msgspec.json.encode(rest[INPUT] if wrapped else rest)
    try:
        return serde.serialize(serde.deserialize(raw))
    except BadRequest as error:
        raise Misfit(error.detail) from error
