"""`@step`: a function that is a journaled step wherever a handler calls it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar, overload

from agentdur.core.errors import NotInHandler
from agentdur.sdk.branch import current_branch
from agentdur.sdk.context import Context
from agentdur.sdk.steps import RunOptions

P = ParamSpec("P")
T = TypeVar("T")


def current_context() -> Context:
    """The context of the handler that is running; NotInHandler outside of one."""
    branch = current_branch()
    if branch is None or not isinstance(branch.attempt.context, Context):
        raise NotInHandler("there is no running handler here")
    return branch.attempt.context


@overload
def step(function: Callable[P, Coroutine[Any, Any, T]], /) -> Callable[P, Coroutine[Any, Any, T]]: ...
@overload
def step(
    *, name: str = "", options: RunOptions[Any] | None = None
) -> Callable[[Callable[P, Any]], Callable[P, Coroutine[Any, Any, Any]]]: ...
def step(function: Any = None, /, *, name: str = "", options: RunOptions[Any] | None = None) -> Any:
    """Make a function a step: `await f(x)` in a handler, or in anything a handler calls, is journaled.

    Outside of a handler it raises NotInHandler: it never runs without a journal unnoticed.
    """

    def decorate(inner: Callable[..., Any]) -> Callable[..., Any]:
        label = name or inner.__name__

        @wraps(inner)
        async def durable(*args: Any, **kwargs: Any) -> Any:
            return await current_context()._step(label, inner, options, args, kwargs)

        return durable

    return decorate(function) if function is not None else decorate
