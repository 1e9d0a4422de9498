"""When a tool needs a person's yes, and how that is asked.

Rules of this file:
1. What is approved is exactly these arguments: they are part of the question's digest. An approver may give
   others; those are checked as the model's are, and asked about again when they do not fit.
2. A predicate is asked on every replay: it says the same about the same arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from agentdur.sdk.approval import ask
from agentdur.sdk.context import Context
from agentdur.sdk.serde import DefaultSerde
from agentdur.tools.text import Misfit
from agentdur.tools.tool import Tool

_JSON: DefaultSerde[Any] = DefaultSerde()
Arguments: TypeAlias = Mapping[str, Any]


class NotPermitted(Exception):
    """A person said no, or nothing in time; the text is for the model."""


async def permitted(context: Context, tool: Tool, arguments: Arguments) -> tuple[Arguments, str]:
    """The arguments to run the tool with, and what the model has to be told of them; NotPermitted."""
    rule = tool.approval
    if rule is None or (rule.when is not None and not rule.when(arguments)):
        return arguments, ""
    shown = {"tool": tool.name, "arguments": plain(arguments)}
    question = rule.question_about(tool.name, arguments)
    misfit = ""
    while True:
        said = await ask(
            context, f"{question}{misfit}", shown, timeout=rule.timeout, default=rule.default,
            notify=rule.notify, tool=tool.name,
        )  # fmt: skip
        if not said:
            why = said.reason or ("nobody decided in time" if said.timed_out else "no reason was given")
            raise NotPermitted(f"a person has to approve this, and did not: {why}")
        if not said.edited:
            return arguments, ""
        try:
            changed = _edited(tool, said.payload)
        except Misfit as error:
            misfit = f" (The changed arguments did not fit: {error})"
            continue
        told = msgspec.json.encode(plain(changed)).decode()
        return changed, f"A person approved this with other arguments: {told}\n"


def _edited(tool: Tool, payload: Any) -> Arguments:
    if not isinstance(payload, dict) or set(payload) - {"tool", "arguments"} or "arguments" not in payload:
        raise Misfit('expected {"tool": …, "arguments": {…}}')
    if payload.get("tool", tool.name) != tool.name:
        raise Misfit(f"the tool stays {tool.name}")
    return tool.read(msgspec.json.encode(payload["arguments"]).decode())


def plain(arguments: Arguments) -> Any:
    """Checked arguments as plain JSON, defaults included."""
    return msgspec.json.decode(_JSON.serialize(dict(arguments)))
