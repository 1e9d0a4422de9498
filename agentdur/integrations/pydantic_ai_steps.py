"""Operations of Pydantic AI as steps of the journal.

Rules of this file:
1. One operation is one step, named by the framework's own namer, in a branch of its own under the run.
2. What an operation says to the run besides its result is in the journal too: control flow as the framework
   encodes it, and the usage of agents that ran inside a tool.
3. Nobody retries inside a step but the model, which is told what went wrong.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal, TypedDict

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
from pydantic_ai.tools import RunContext
from pydantic_ai.toolsets import ToolsetTool
from pydantic_ai.usage import RunUsage

from agentdur.integrations.pydantic_ai_errors import (
    BadToolOptions,
    InlineToolNotAsync,
    reborn,
    translated,
)
from agentdur.integrations.pydantic_ai_run import within
from agentdur.integrations.pydantic_ai_stream import announce_answer, announce_tool, streaming
from agentdur.sdk.exceptions import RetryableError, TerminalError
from agentdur.sdk.note import note
from agentdur.sdk.step import current_context
from agentdur.sdk.steps import RunOptions

_USAGE: TypeAdapter[RunUsage] = TypeAdapter(RunUsage)
_WITH_USAGE = "agentdur.usage"
_record = getattr(durable_exec, "record_durable_unit", None)  # newer than the oldest version we take
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


class Backend(JournalCallableOperationBackend[Options]):
    """Runs operations as steps."""

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
        step = _Step(operation_id, body, asked_by, config)
        options = config.retry

        async def journaled() -> object:
            streaming.set(isinstance(operation_id, ModelRequestId) and operation_id.streaming)
            return await current_context().run_typed(name, step.act, options)

        try:
            payload = await within(label_of(operation_id, asked_by), journaled)
        except TerminalError as error:
            raise reborn(error) from None
        if _record is not None:
            _record(executed=step.acted)
        return step.told(payload)


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
        options: Options,
    ) -> None:
        self.operation_id, self.body, self.asked_by, self.options = operation_id, body, asked_by, options
        self.acted = False
        self.shared = asked_by.usage if asked_by is not None else None

    async def act(self) -> object:
        """Run it once; failures are told apart."""
        self.acted = True
        began = time.monotonic()
        seconds = None if self.options.timeout is None else self.options.timeout.total_seconds()
        late = asyncio.timeout(seconds)
        try:
            async with late:
                payload = await self._measured()
        except TimeoutError as error:
            if not late.expired():
                raise
            raise RetryableError(f"no result within {seconds:g} s", 504) from error
        except Exception as error:
            raise translated(error) from error
        self._note(payload, began)
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
        return {_WITH_USAGE: _USAGE.dump_python(used, mode="json"), "result": payload}

    def told(self, payload: Any) -> object:
        """The operation's own result; what agents inside the tool used is added to the run."""
        if isinstance(payload, dict) and _WITH_USAGE in payload:
            if self.shared is not None:
                self.shared.incr(_USAGE.validate_python(payload[_WITH_USAGE]))
            return payload["result"]
        return payload

    def _note(self, payload: Any, began: float) -> None:
        if isinstance(self.operation_id, ModelRequestId) and isinstance(payload, dict):
            answer = payload.get("response", payload)  # older versions keep the events beside it
            usage = answer.get("usage") or {}
            if self.operation_id.streaming:
                announce_answer(answer)
            note(
                model=answer.get("model_name") or self.operation_id.model_name,
                prompt_tokens=usage.get("input_tokens", 0),
                completion_tokens=usage.get("output_tokens", 0),
                cost=usage.get("cost"),
                request_id=answer.get("provider_response_id"),
                finish_reason=answer.get("finish_reason"),
                latency_ms=round((time.monotonic() - began) * 1000),
            )
        elif isinstance(self.operation_id, ToolsetCallToolId) and self.asked_by is not None:
            note(tool=self.asked_by.tool_name, tool_call_id=self.asked_by.tool_call_id)
