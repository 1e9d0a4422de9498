"""What differs between the versions of Pydantic AI that we take.

The first ones leave run ids and the retries of clients to us; newer ones ask their capabilities for both, and
keep the spans of replays to themselves when they are told what is one.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import wraps
from importlib.metadata import version
from typing import Any
from uuid import UUID

import pydantic_ai
from pydantic_ai import _agent_graph
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.settings import ModelSettings

from agentdur.integrations.pydantic_ai_errors import RunNotReplayable
from agentdur.integrations.pydantic_ai_run import in_handler
from agentdur.sdk.step import current_context

_replays: Any = getattr(pydantic_ai, "_durable_replay", None)
_CLIENTS_RETRY = "max_retries" not in ModelSettings.__annotations__


def tell_replays() -> None:
    """From here on, in this context, spans are sent for what runs, not for what is replayed. The scope has no
    end of its own: it is that of the handler's attempt, and agents that run in tools share it."""
    if _replays is not None and _replays._scope.get() is None:
        _replays._scope.set(_replays._Scope(None))
        _replays._tally.set(_replays._Tally(parent=None))


def without_retries(model: Any) -> None:
    """The provider's clients under this model do not retry by themselves."""
    if _CLIENTS_RETRY:
        for client in _clients(model):
            client.max_retries = 0


def _clients(model: Any) -> Iterator[Any]:
    client = getattr(model, "client", None)
    if isinstance(getattr(client, "max_retries", None), int):
        yield client
    for inner in (getattr(model, "wrapped", None), *getattr(model, "models", ())):
        if inner is not None:
            yield from _clients(inner)


def refuse_compaction_outside_of_steps() -> None:
    """The first ones compact a history in the handler, past the journal: that is told, not done."""
    model = getattr(sys.modules.get("pydantic_ai.models.openai"), "OpenAIResponsesModel", None)
    if model is not None and not hasattr(model.compact_messages, "agentdur_guards"):
        model.compact_messages = _guarded(model.compact_messages)


def _guarded(compact: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @wraps(compact)
    async def guarded(*args: Any, **more: Any) -> Any:
        if in_handler():
            found = version("pydantic-ai-slim")
            raise RunNotReplayable(f"pydantic-ai-slim {found} compacts a history past the journal: use 2.68")
        return await compact(*args, **more)

    guarded.agentdur_guards = True  # type: ignore[attr-defined]  # so that it is not guarded twice
    return guarded


def _ids_of_handlers(drawn: Callable[[], UUID]) -> Callable[[], UUID]:
    """In a handler, ids of runs and conversations are the same on every attempt."""
    return lambda: current_context().uuid() if in_handler() else drawn()


if not hasattr(AbstractCapability, "get_default_run_id"):
    drawn = _agent_graph.uuid7  # type: ignore[attr-defined]  # it is the framework's own
    _agent_graph.uuid7 = _ids_of_handlers(drawn)  # type: ignore[attr-defined]  # as above
