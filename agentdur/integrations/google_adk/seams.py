"""Where ADK is taken hold of: some functions of its flow and its platform, replaced once per process.

Rules of this file:
1. Outside of a durable run each of them does what it did before. No object of the user is copied or changed.
2. A version of ADK that lacks one of the places, or calls it otherwise, is refused: better than running
   agents that only look durable.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.metadata import version
from typing import Any
from weakref import WeakKeyDictionary

from google.adk import runners
from google.adk.flows.llm_flows import base_llm_flow
from google.adk.flows.llm_flows.tools import _caller
from google.adk.platform import _random as platform_random
from google.adk.platform import time as platform_time
from google.adk.platform import uuid as platform_uuid
from google.adk.sessions import InMemorySessionService
from google.adk.tools.base_toolset import BaseToolset
from google.adk.workflow import _tool_node

from agentdur.integrations.google_adk.approvals import durable_gate
from agentdur.integrations.google_adk.errors import UnknownAdkVersion
from agentdur.integrations.google_adk.model import DurableModel
from agentdur.integrations.google_adk.scope import current_scope, own_id
from agentdur.integrations.google_adk.servers import TOOLSET, durable_request, once_a_run, uncached
from agentdur.integrations.google_adk.tools import durable_call
from agentdur.sdk.branch import current_branch

_PLACES: tuple[tuple[Any, str, tuple[str, ...]], ...] = (
    (base_llm_flow, "resolve_llm", ("invocation_context",)),
    (_caller, "_call_tool_async", ("tool", "args", "tool_context")),
    (_caller, "apply_confirmation_gate", ("tool", "function_args", "tool_context")),
    (_tool_node, "apply_confirmation_gate", ("tool", "function_args", "tool_context")),
    (BaseToolset, "get_tools_with_prefix", ("self", "readonly_context")),
    (platform_time, "get_time", ()),
    (platform_uuid, "new_uuid", ()),
    (platform_random, "get_random", ()),
)
_taken: list[bool] = []


def take_hold(run_async: Callable[[Any], Any], run: Callable[[Any], Any], live: Callable[[Any], Any]) -> None:
    """Put ours in the places, once; UnknownAdkVersion when one is missing. The arguments make the runner's
    ways in durable, of those it has."""
    if _taken:
        return
    cache = (TOOLSET, "_read_tool_list_cache", ("self", "cache_key"))
    for owner, name, parameters in _PLACES if TOOLSET is None else (*_PLACES, cache):
        there = getattr(owner, name, None)
        if there is None or tuple(inspect.signature(there).parameters) != parameters:
            raise UnknownAdkVersion(f"google-adk {version('google-adk')}: {name} is not what it was")
    _flow()
    _platform()
    for name in ("sessions", "user_state", "app_state"):
        setattr(InMemorySessionService, name, OfTheInvocation(name))
    _put(BaseToolset, "get_tools_with_prefix", once_a_run)
    if TOOLSET is not None:
        _put(TOOLSET, "_execute_with_session", durable_request)
        _put(TOOLSET, "_read_tool_list_cache", uncached)
    _put(runners.Runner, "run_async", run_async)
    _put(runners.Runner, "run", run)
    _put(runners.Runner, "run_live", live)
    _taken.append(True)


def _flow() -> None:
    """The model of a turn, whoever names it; tools, and what is asked before them."""
    resolve: Any = getattr(base_llm_flow, "resolve_llm")  # noqa: B009 - it is no public name of the module

    async def durable_model(invocation_context: Any) -> Any:
        model, scope = await resolve(invocation_context), current_scope()
        if scope is None:
            return model
        agent = invocation_context.agent.name
        branch = invocation_context.branch
        return DurableModel(model, scope, agent, f"{agent}@{branch}" if branch else agent)

    _put(base_llm_flow, "resolve_llm", lambda _: durable_model)
    _put(_caller, "_call_tool_async", durable_call)
    _put(_caller, "apply_confirmation_gate", durable_gate)
    _put(_tool_node, "apply_confirmation_gate", durable_gate)


def _platform() -> None:
    """ADK's clock, ids and chance."""

    def clock(original: Callable[[], float]) -> Callable[[], float]:
        def get_time() -> float:
            scope = current_scope()
            return original() if scope is None else scope.now()

        return get_time

    def ids(original: Callable[[], str]) -> Callable[[], str]:
        def new_uuid() -> str:
            scope = current_scope()
            return (own_id() or original()) if scope is None else scope.new_id()

        return new_uuid

    def chance(original: Callable[[], Any]) -> Callable[[], Any]:
        def get_random() -> Any:
            scope = current_scope()
            return original() if scope is None else scope.chance()

        return get_random

    _put(platform_time, "get_time", clock)
    _put(platform_uuid, "new_uuid", ids)
    _put(platform_random, "get_random", chance)


class OfTheInvocation:
    """What a session service keeps in memory: in a handler it begins empty with each attempt, so that a
    replay finds what the first run found."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._kept: WeakKeyDictionary[Any, WeakKeyDictionary[Any, dict[str, Any]]] = WeakKeyDictionary()

    def __get__(self, service: Any, owner: type | None = None) -> Any:
        if service is None:
            return self
        branch = current_branch()
        if branch is None:
            return service.__dict__.setdefault(self._name, {})
        services = self._kept.setdefault(branch.attempt, WeakKeyDictionary())
        return services.setdefault(service, {})

    def __set__(self, service: Any, value: Any) -> None:
        service.__dict__[self._name] = value


def _put(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    setattr(owner, name, make(getattr(owner, name)))
