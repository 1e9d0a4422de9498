"""Operations of Pydantic AI as steps of the journal.

Rules of this file:
1. One operation is one step, named by the framework's own namer, in a branch of its own under the run.
2. What an operation says to the run besides its result is in the journal too: control flow as the framework
   encodes it, and the usage of agents that ran inside a tool.
3. Nobody retries inside a step but the model, which is told what went wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, Literal, Protocol, TypedDict

from pydantic import TypeAdapter
from pydantic_ai import durable_exec
from pydantic_ai.durable_exec import (
    CapabilityOperationId,
    DurableOperationId,
    EventStreamHandlerId,
    JournalCallableOperationBackend,
    ModelCompactMessagesId,
    ModelRequestId,
    RoleBasedOperationConfig,
    ToolsetCallToolId,
    ToolsetValidateToolArgumentsId,
)
from pydantic_ai.models import Model
from pydantic_ai.tools import RunContext
from pydantic_ai.toolsets import ToolsetTool
from pydantic_ai.usage import RunUsage

from agentdur.integrations.pydantic_ai_errors import (
    BadToolOptions,
    InlineToolNotAsync,
    reborn,
    translated,
)
from agentdur.integrations.pydantic_ai_models import Knows, StepClient, operation_request
from agentdur.integrations.pydantic_ai_run import within
from agentdur.integrations.pydantic_ai_stream import announce_answer, announce_tool, streaming
from agentdur.llm.answer import ModelAnswer
from agentdur.llm.budget import accounts, out_of_reach
from agentdur.llm.call import ModelCall, step_key
from agentdur.llm.completion import journaled
from agentdur.llm.errors import ModelTimeout, revived
from agentdur.llm.within import SPENT, settle, spending
from agentdur.sdk.exceptions import RetryableError, TerminalError
from agentdur.sdk.note import note
from agentdur.sdk.step import current_context
from agentdur.sdk.steps import RunFuture, RunOptions

_USAGE: TypeAdapter[RunUsage] = TypeAdapter(RunUsage)
_WITH_USAGE, _RESULT = "agentdur.usage", "result"
_record = getattr(durable_exec, "record_durable_unit", None)  # newer than the oldest version we take
_MODEL = (ModelRequestId, ModelCompactMessagesId)
_DURATIONS = ("max_duration", "initial_retry_interval", "max_retry_interval", "timeout")
_KEYS = ("max_attempts", "retry_interval_factor", *_DURATIONS)


class ToolOptions(TypedDict, total=False):
    """What a tool's metadata may hold under `agentdur`; durations are timedeltas or seconds. The names are
    those of RunOptions; `timeout` limits one try of the tool."""

    max_attempts: int
    max_duration: timedelta | float
    initial_retry_interval: timedelta | float
    max_retry_interval: timedelta | float
    retry_interval_factor: float
    timeout: timedelta | float


@dataclass(frozen=True)
class Options:
    """How one kind of operation is retried, and how long one try may take."""

    retry: RunOptions[Any] | None = None
    timeout: timedelta | None = None


class Configs(RoleBasedOperationConfig[Options]):
    """The options of models and tools, and what a tool says about itself."""

    def __init__(self, *, model: Options, tool: Options) -> None:
        super().__init__(model=model, event=Options(), capability=Options(), tool=tool)
        self._tool = tool

    def for_tool(
        self, role: Any, *, operation_id: DurableOperationId, tool: object | None, tool_name: str
    ) -> Options | Literal[False]:
        """False: it runs inline, in the handler."""
        given = _metadata(tool)
        if given is None:
            return self._tool
        if given is False:
            if getattr(tool, "is_async", True) is False:
                raise InlineToolNotAsync(f"tool '{tool_name}'")
            return False
        return read_options(given, self._tool, tool_name)


def _metadata(tool: object | None) -> Any:
    if not isinstance(tool, ToolsetTool) or not tool.tool_def.metadata:
        return None
    return tool.tool_def.metadata.get("agentdur")


def read_options(given: Any, base: Options, tool_name: str) -> Options:
    """What is given replaces what the capability says; BadToolOptions names what does not fit."""
    if not isinstance(given, Mapping):
        raise BadToolOptions(f"tool '{tool_name}': expected ToolOptions or False, not {given!r}")
    strange = sorted(set(given) - set(_KEYS))
    if strange:
        raise BadToolOptions(f"tool '{tool_name}': there is no {strange[0]!r}, only {', '.join(_KEYS)}")
    try:
        read: dict[str, Any] = {
            key: _duration(value) if key in _DURATIONS else value for key, value in given.items()
        }
        timeout = read.pop("timeout", base.timeout)
        return Options(replace(base.retry or RunOptions(), **read) if read else base.retry, timeout)
    except (TypeError, ValueError) as misfit:
        raise BadToolOptions(f"tool '{tool_name}': {misfit}") from misfit


def _duration(value: Any) -> timedelta:
    return value if isinstance(value, timedelta) else timedelta(seconds=float(value))


class KnowsIds(Knows, Protocol):
    """Who knows the models of an agent."""

    def asked_model(
        self, model_id: str | None, asked_by: RunContext[Any] | None
    ) -> tuple[Model[Any] | None, str]:
        """The model of that id, when it is there, and its name in LiteLLM's words."""


class Backend(JournalCallableOperationBackend[Options]):
    """Runs operations as steps. `models`: who knows what their ids stand for."""

    def __init__(
        self, *, agent_name: str, default_model_id: str | None, config: Configs, models: KnowsIds
    ) -> None:
        super().__init__(agent_name=agent_name, default_model_id=default_model_id, config=config)
        self._models = models

    async def execute(
        self,
        *,
        operation_id: DurableOperationId,
        name: str,
        body: Callable[[], Awaitable[object]],
        cache_key: tuple[object, ...],
        config: Options,
    ) -> object:
        """One operation: its result comes from the journal when it is there."""
        asked_by = next((value for value in cache_key if isinstance(value, RunContext)), None)
        step = _Step(operation_id, body, asked_by, config.timeout)
        if isinstance(operation_id, _MODEL):
            run = partial(self._ask, operation_id, name, step, cache_key, config)
        else:
            run = partial(step.run, name, config.retry)
        try:
            payload = await within(label_of(operation_id, asked_by), run)
        except TerminalError as error:
            raise reborn(revived(error)) from None
        if _record is not None:
            _record(executed=step.acted)
        return step.told(payload)

    async def _ask(
        self,
        operation_id: ModelRequestId | ModelCompactMessagesId,
        name: str,
        step: _Step,
        told: tuple[object, ...],
        config: Options,
    ) -> object:
        """A model call, under the budgets and limits of all model calls."""
        streamed = isinstance(operation_id, ModelRequestId) and operation_id.streaming
        streaming.set(streamed)
        model, known = self._models.asked_model(operation_id.model_id, step.asked_by)
        request = operation_request(known, told, config.timeout, streamed)
        client = StepClient(model, self._models, request, step.act)
        call = ModelCall(request, request.model, accounts(), client)
        answer: ModelAnswer = await journaled(current_context(), call, name, config.retry)
        return answer.message


def label_of(operation_id: DurableOperationId, asked_by: RunContext[Any] | None) -> str:
    """The name of the operation's branch, the same on every attempt."""
    call = asked_by.tool_call_id if asked_by is not None else None
    match operation_id:
        case ToolsetCallToolId() | ToolsetValidateToolArgumentsId() if call:
            return f"tool:{call}"
        case CapabilityOperationId(capability_id=capability):
            return f"tool:{call}/{capability}" if call else f"capability:{capability}"
        case EventStreamHandlerId():
            return "events"
        case ModelRequestId():
            return "model"
        case ModelCompactMessagesId():
            return "compact"
        case _:
            return "toolset"


def copied(usage: RunUsage) -> RunUsage:
    """One that counts on its own."""
    return replace(usage, details=dict(usage.details))


class _Step:
    """The action of one step."""

    def __init__(
        self,
        operation_id: DurableOperationId,
        body: Callable[[], Awaitable[object]],
        asked_by: RunContext[Any] | None,
        timeout: timedelta | None,
    ) -> None:
        self.operation_id, self.body, self.asked_by, self.timeout = operation_id, body, asked_by, timeout
        self.acted = False
        self.shared = asked_by.usage if asked_by is not None else None

    async def run(self, name: str, options: RunOptions[Any] | None) -> object:
        """The step, and what agents inside of it have spent."""
        streaming.set(False)
        context, under = current_context(), accounts()

        async def action() -> object:
            with spending(under, step_key(), out_of_reach()) as spent:
                payload = await self.act()
            return payload if spent.told is None else {SPENT: spent.told, **_enveloped(payload)}

        step: RunFuture[Any] = context.run_typed(name, action, options)
        told: Any = None
        try:
            payload = await step
            told = payload.get(SPENT) if isinstance(payload, dict) else None
        except TerminalError as error:
            told = (error.metadata or {}).get(SPENT)
            raise
        finally:
            settle(under, f"{context.invocation_id}/{step.branch.name}/{step.number}", told)
        return payload

    async def act(self) -> Any:
        """Run it once; failures are told apart."""
        self.acted = True
        seconds = None if self.timeout is None else self.timeout.total_seconds()
        late = asyncio.timeout(seconds)
        try:
            async with late:
                payload = await self._measured()
        except TimeoutError as error:
            if not late.expired():
                raise
            asked = isinstance(self.operation_id, _MODEL)
            kind = ModelTimeout if asked else RetryableError
            raise kind(f"no result within {seconds:g} s", 504) from error
        except Exception as error:
            raise translated(error) from error
        self._tell(payload)
        return payload

    async def _measured(self) -> object:
        """A tool's own agents count in the run's usage; what they used is told apart from its siblings'."""
        asked_by, shared = self.asked_by, self.shared
        if asked_by is None or shared is None or not isinstance(self.operation_id, ToolsetCallToolId):
            return await self.body()
        own, before = copied(shared), copied(shared)
        asked_by.usage = own
        try:
            payload = await self.body()
        finally:
            asked_by.usage = shared
        announce_tool(asked_by, payload)
        used = own - before
        if not used.has_values():
            return payload
        return {_WITH_USAGE: _USAGE.dump_python(used, mode="json"), _RESULT: payload}

    def told(self, payload: Any) -> object:
        """The operation's own result; what agents inside the tool used is added to the run."""
        if not isinstance(payload, dict) or not (_WITH_USAGE in payload or SPENT in payload):
            return payload
        if self.shared is not None and _WITH_USAGE in payload:
            self.shared.incr(_USAGE.validate_python(payload[_WITH_USAGE]))
        return payload[_RESULT]

    def _tell(self, payload: Any) -> None:
        """Of an answer that was streamed that it has ended; of a tool's call whose it was."""
        if isinstance(self.operation_id, ModelRequestId):
            if self.operation_id.streaming and isinstance(payload, dict):
                announce_answer(payload.get("response", payload))
        elif isinstance(self.operation_id, ToolsetCallToolId) and self.asked_by is not None:
            note(tool=self.asked_by.tool_name, tool_call_id=self.asked_by.tool_call_id)


def _enveloped(payload: Any) -> dict[str, Any]:
    """A result with room for more beside it."""
    return payload if isinstance(payload, dict) and _WITH_USAGE in payload else {_RESULT: payload}
