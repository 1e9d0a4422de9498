"""One run of an agent inside a handler: where its steps stand in the journal.

Rules of this file:
1. A run has a place of its own, `agent:<name>`, under the branch that started it. Its steps are branches
   under that place: `model`, `tool:<call id>`, …; tasks the framework makes for itself name none of them.
2. A run is found through a context variable that the framework carries from `wrap_run` to the run's tasks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid5

from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import ModelMessage, ModelResponse, RetryPromptPart
from pydantic_ai.models import Model, infer_model

from agentdur.core.errors import NotInHandler
from agentdur.sdk.branch import Branch, current_branch, spawn
from agentdur.sdk.step import current_context

T = TypeVar("T")
_IDS = UUID("5d0c9c0b-0f0e-4b7e-9d5c-8f2f5a1b7c64")


@dataclass(slots=True)
class Run:
    """What a run keeps while it lasts. `models`: instances that were given to the run itself."""

    anchor: Branch
    models: dict[str, Model[Any]] = field(default_factory=dict)
    streamed: bool = False

    def name_of(self, model: Model[Any]) -> str:
        """The name under which this instance's requests are journaled."""
        for name, known in self.models.items():
            if known is model:
                return name
        name = base = model.model_id
        count = 0
        while name in self.models:
            count += 1
            name = f"{base}#{count}"
        self.models[name] = model
        return name


class Made:
    """Models made by their names, one set for each event loop: clients live on one loop."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._models: dict[str, Model[Any]] = {}
        self._likes: list[tuple[Model[Any], str, Model[Any]]] = []

    def model(self, name: str) -> Model[Any] | None:
        """The model of that name; None when the name says nothing to the framework."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._models = loop, {}
        if name not in self._models:
            try:
                self._models[name] = infer_model(name)
            except (UserError, ValueError):
                return None  # the framework itself says what is wrong with it
        return self._models[name]

    def like(self, model: Model[Any], name: str, make: Callable[[Model[Any], str], Model[Any]]) -> Model[Any]:
        """The one of that name in the place of this model, made once."""
        for other, known, made in self._likes:
            if other is model and known == name:
                return made
        new = make(model, name)
        self._likes.append((model, name, new))
        return new

    def name_of(self, model: Model[Any]) -> str | None:
        """The name of a model that was made here."""
        for _, name, made in self._likes:
            if made is model:
                return name
        return next((name for name, known in self._models.items() if known is model), None)


current_run: ContextVar[Run | None] = ContextVar("agentdur_pydantic_ai_run", default=None)


def in_handler() -> bool:
    """True in a handler's code, and false inside a step, which is journaled as a whole."""
    branch = current_branch()
    return branch is not None and not branch.in_step


def in_handler_or_step() -> bool:
    """True wherever what runs is journaled, by itself or as part of a step."""
    return current_branch() is not None


def require_handler() -> None:
    """NotInHandler unless a handler or one of its steps runs."""
    if current_branch() is None:
        raise NotInHandler("an agent with Durable() runs in a handler, or with Durable(allow_ephemeral=True)")


def begin(name: str) -> Run:
    """A run begins; called in the task that the framework made for `wrap_run`, under the run's own."""
    branch = current_branch()
    assert branch is not None  # in_handler() was asked
    return Run(anchor=(branch.parent or branch).child(f"agent:{name}"))


async def within(label: str, action: Callable[[], Awaitable[T]]) -> T:
    """Do it in a branch of the run; in the branch that runs when there is no run around."""
    run, branch = current_run.get(), current_branch()
    if run is None or branch is None or run.anchor.attempt is not branch.attempt:
        return await action()

    async def step() -> T:
        return await action()

    return await spawn(label, step(), under=run.anchor)


async def durable_sleep(seconds: float) -> None:
    """The framework's own waits, journaled."""
    if not in_handler():
        raise NotInHandler("the run waits outside of its handler")
    await within("sleep", lambda: current_context().sleep(timedelta(seconds=max(seconds, 0))))


def default_run_id() -> str:
    """A run's id: the same on every attempt, another one for the next run of the same handler."""
    return str(current_context().uuid())


def settle(messages: list[ModelMessage], run_id: str | None) -> None:
    """Take clock readings and random ids out of the run's own messages, so that they are the same on every
    attempt: a request carries the time of the answer before it, or of the first one after it."""
    mine = [message for message in messages if message.run_id == run_id]
    answers = [message.timestamp for message in mine if isinstance(message, ModelResponse)]
    if not answers:
        return
    moment: datetime = answers[0]
    for number, message in enumerate(mine):
        if isinstance(message, ModelResponse):
            moment = message.timestamp
            continue
        message.timestamp = moment
        for position, part in enumerate(message.parts):
            if hasattr(part, "timestamp"):
                part.timestamp = moment
            if isinstance(part, RetryPromptPart) and part.tool_name is None:
                part.tool_call_id = f"retry_{uuid5(_IDS, f'{run_id}/{number}/{position}').hex}"
