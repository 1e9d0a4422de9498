"""`@tool`: a function a model may call, described to the model by its own annotations and docstring."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar, overload

from pydantic import BaseModel

from agentdur.core.errors import BadDefinition
from agentdur.sdk.steps import RunOptions
from agentdur.tools.schema import NAME, arguments_model, description_of, json_schema

P = ParamSpec("P")
T = TypeVar("T")


def default_options() -> RunOptions[Any]:
    """Three tries within a few seconds; after that the model is told, and may know another way."""
    return RunOptions(max_attempts=3, initial_retry_interval=timedelta(milliseconds=200))


class ToolError(Exception):
    """Raised by a tool to tell the model what went wrong, at once and in these words; nothing is retried."""


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A function and its description. Calling it calls the function: durable is what `run_tools` does.

    `inline`: the function runs in the handler itself instead of in a step, so it may use the context (calls,
    waits, approvals, steps of its own), and must, for whatever has an effect outside.
    """

    function: Callable[..., Any]
    name: str
    description: str
    arguments: type[BaseModel] = field(repr=False)
    schema: dict[str, Any] = field(repr=False)
    options: RunOptions[Any] = field(default_factory=default_options, repr=False)
    inline: bool = False

    @property
    def spec(self) -> dict[str, Any]:
        """What a model is told, in OpenAI's shape."""
        about = {"name": self.name, "description": self.description, "parameters": self.schema}
        return {"type": "function", "function": about}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


@overload
def tool(function: Callable[P, T], /) -> Tool: ...
@overload
def tool(
    *, name: str = "", description: str = "", options: RunOptions[Any] | None = None, inline: bool = False
) -> Callable[[Callable[P, T]], Tool]: ...
def tool(
    function: Any = None,
    /,
    *,
    name: str = "",
    description: str = "",
    options: RunOptions[Any] | None = None,
    inline: bool = False,
) -> Any:
    """Make a sync or async function a tool. `options`: how its failures are retried before the model is told.

    The name is part of the journal. BadDefinition when a model could not call the function.
    """

    def decorate(inner: Callable[..., Any]) -> Tool:
        label = name or getattr(inner, "__name__", "")
        if not NAME.fullmatch(label):
            raise BadDefinition(f"'{label}' is no name for a tool: letters, digits, _ and -, at most 64")
        if inline and not inspect.iscoroutinefunction(inner):
            raise BadDefinition(f"tool '{label}': an inline tool is an async function")
        model = arguments_model(inner, label)
        return Tool(
            function=inner,
            name=label,
            description=description or description_of(inspect.getdoc(inner) or ""),
            arguments=model,
            schema=json_schema(model, label),
            options=options or default_options(),
            inline=inline,
        )

    return decorate(function) if function is not None else decorate
