"""`@tool`: a function a model may call, described to the model by its own annotations and docstring."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar, overload

from pydantic import BaseModel, ValidationError

from agentdur.core.errors import BadDefinition
from agentdur.sdk.steps import RunOptions
from agentdur.tools.schema import (
    NAME,
    arguments_model,
    description_of,
    given,
    json_schema,
    key_parameters,
)
from agentdur.tools.text import Misfit, ToolError, misfits

__all__ = ["NOT_DONE", "Approve", "Tool", "ToolError", "tool"]

P = ParamSpec("P")
T = TypeVar("T")


class _NotDone:
    """What `reconcile` answers when the effect has not happened."""

    def __repr__(self) -> str:
        return "NOT_DONE"


NOT_DONE: Final = _NotDone()
"""What `reconcile(key)` answers when the effect of that call has not happened: then the tool runs."""

Predicate: TypeAlias = Callable[[Mapping[str, Any]], bool]
Reconcile: TypeAlias = Callable[[str], Any]
Legs: TypeAlias = Callable[[Any], Awaitable[Any]]


@dataclass(frozen=True, kw_only=True)
class Approve:
    """A rule: a person has to approve a call, always or `when` this says so about the arguments. `question`:
    the text, or a function of the arguments that makes it. The others are those of `ctx.approval`."""

    when: Predicate | None = None
    question: str | Callable[[Mapping[str, Any]], str] = ""
    timeout: timedelta | None = None
    default: bool = False
    notify: str | Sequence[str] | None = None

    def question_about(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """What the person reads."""
        if callable(self.question):
            return self.question(arguments)
        return self.question or f"Run the tool {tool}?"


def default_options() -> RunOptions[Any]:
    """Three tries within a few seconds; after that the model is told, and may know another way."""
    return RunOptions(max_attempts=3, initial_retry_interval=timedelta(milliseconds=200))


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A function and its description. Calling it calls the function: durable is what `run_tools` does.

    `inline`: the function runs in the handler itself instead of in a step, so it may use the context (calls,
    waits, approvals, steps of its own), and must, for whatever has an effect outside.
    `timeout`: how long one try may take. `approval`: when a person has to approve. `idempotent` False: a try
    that may have had its effect is not simply made again; `reconcile(key)` says what became of it, or a
    person does.
    `arguments` checks what the model gives; `reader` does when there is no such model.
    """

    function: Callable[..., Any]
    name: str
    description: str
    schema: dict[str, Any] = field(repr=False)
    arguments: type[BaseModel] | None = field(default=None, repr=False)
    reader: Callable[[str], Mapping[str, Any]] | None = field(default=None, repr=False)
    options: RunOptions[Any] = field(default_factory=default_options, repr=False)
    inline: bool = False
    timeout: timedelta | None = None
    approval: Approve | None = None
    idempotent: bool = True
    reconcile: Reconcile | None = field(default=None, repr=False)
    keys: tuple[str, ...] = field(default=(), repr=False)
    legs: Legs | None = field(default=None, repr=False)

    @property
    def spec(self) -> dict[str, Any]:
        """What a model is told, in OpenAI's shape."""
        about = {"name": self.name, "description": self.description, "parameters": self.schema}
        return {"type": "function", "function": about}

    def read(self, text: str) -> Mapping[str, Any]:
        """The arguments a model gave, checked, by parameter; Misfit says what is wrong."""
        if self.arguments is None:
            assert self.reader is not None, "one of the two is given"
            return self.reader(text or "{}")
        try:
            return given(self.arguments.model_validate_json(text or "{}"))
        except ValidationError as error:
            raise Misfit(misfits(error)) from error

    def bound(self, arguments: Mapping[str, Any], key: str) -> Callable[[], Any]:
        """The function with its arguments, and the key where it wants it."""
        return partial(self.function, **arguments, **dict.fromkeys(self.keys, key))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


@overload
def tool(function: Callable[P, T], /) -> Tool: ...
@overload
def tool(
    *,
    name: str = "",
    description: str = "",
    options: RunOptions[Any] | None = None,
    inline: bool = False,
    timeout: timedelta | None = None,
    approval: bool | Predicate | Approve | None = None,
    idempotent: bool = True,
    reconcile: Reconcile | None = None,
) -> Callable[[Callable[P, T]], Tool]: ...
def tool(
    function: Any = None,
    /,
    *,
    name: str = "",
    description: str = "",
    options: RunOptions[Any] | None = None,
    inline: bool = False,
    timeout: timedelta | None = None,
    approval: bool | Predicate | Approve | None = None,
    idempotent: bool = True,
    reconcile: Reconcile | None = None,
) -> Any:
    """Make a sync or async function a tool. `options`: how its failures are retried before the model is told;
    `timeout`: of one try; `approval`: True, a predicate of the arguments, or an `Approve`.
    `idempotent=False`: never simply run again after a try that may have had its effect; `reconcile(key)` is
    asked for the result or NOT_DONE, without it a person is. A parameter annotated `ToolKey` is given the
    call's key.

    The name is part of the journal. BadDefinition when a model could not call the function.
    """

    def decorate(inner: Callable[..., Any]) -> Tool:
        label = name or getattr(inner, "__name__", "")
        check_name(label)
        if inline and not inspect.iscoroutinefunction(inner):
            raise BadDefinition(f"tool '{label}': an inline tool is an async function")
        if inline and not idempotent:
            raise BadDefinition(f"tool '{label}': an inline tool journals its own steps; mark those instead")
        if reconcile is not None and idempotent:
            raise BadDefinition(f"tool '{label}': reconcile is for tools that are not idempotent")
        model = arguments_model(inner, label)
        return Tool(
            function=inner,
            name=label,
            description=description or description_of(inspect.getdoc(inner) or ""),
            arguments=model,
            schema=json_schema(model, label),
            options=options or default_options(),
            inline=inline,
            timeout=timeout,
            approval=rule_of(approval),
            idempotent=idempotent,
            reconcile=reconcile,
            keys=key_parameters(inner),
        )

    return decorate(function) if function is not None else decorate


def check_name(name: str) -> None:
    """BadDefinition for a name that some provider would refuse."""
    if not NAME.fullmatch(name):
        raise BadDefinition(f"'{name}' is no name for a tool: letters, digits, _ and -, at most 64")


def rule_of(approval: bool | Predicate | Approve | None) -> Approve | None:
    """The rule that the short forms stand for."""
    if isinstance(approval, Approve):
        return approval
    if approval is None or approval is False:
        return None
    return Approve() if approval is True else Approve(when=approval)
