"""Pydantic AI agents that survive crashes.

    agent = Agent("openai-chat:gpt-5-mini", name="support", capabilities=[Durable()])

    @service.handler()
    async def ask(ctx: Context, question: str) -> str:
        return (await agent.run(question)).output

Rules of this file:
1. Every operation that reaches the world is a step: model requests, tools, MCP, event handlers, operations of
   other capabilities. The agent's loop runs in the handler.
2. What cannot be journaled is refused with a typed error. Outside of a handler a run is refused as well.
"""

from __future__ import annotations

import agentdur.integrations.pydantic_ai_version  # noqa: F401  # refuses releases that are too old

# isort: split
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, durable_exec
from pydantic_ai.agent import AbstractAgent, EventStreamHandler, WrapperAgent
from pydantic_ai.capabilities import (
    AbstractCapability,
    WrapModelRequestHandler,
    WrapRunHandler,
    WrapToolExecuteHandler,
)
from pydantic_ai.durable_exec import (
    JSON_CODEC,
    BaseDurabilityCapability,
    DurabilityEngineSpec,
    DurableOperationBackend,
)
from pydantic_ai.messages import ModelResponse, ToolCallPart
from pydantic_ai.models import Model, ModelRequestContext, ModelResolutionContext
from pydantic_ai.run import AgentRun, AgentRunResult
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import AgentDepsT, RunContext, ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, ExternalToolset, WrapperToolset
from typing_extensions import TypeVar

from agentdur.integrations import pydantic_ai_older as older
from agentdur.integrations.pydantic_ai_errors import (
    RunNotReplayable,
    ToolsetWithoutId,
    not_serializable,
    run_error,
)
from agentdur.integrations.pydantic_ai_history import append_messages, load_messages
from agentdur.integrations.pydantic_ai_models import (
    InStepClient,
    ask_within_step,
    going_on_with,
    in_turns,
    like,
    name_of,
    name_of_id,
    original,
)
from agentdur.integrations.pydantic_ai_run import (
    Made,
    begin,
    current_run,
    default_run_id,
    durable_sleep,
    in_handler,
    in_handler_or_step,
    require_handler,
    settle,
    within,
)
from agentdur.integrations.pydantic_ai_steps import Backend, Configs, Options, ToolOptions, read_options
from agentdur.integrations.pydantic_ai_stream import sending, streaming
from agentdur.integrations.pydantic_ai_waits import decided, ends_run
from agentdur.sdk.step import current_context
from agentdur.sdk.steps import RunOptions

__all__ = ["Durable", "DurableAgent", "ToolOptions", "append_messages", "durable", "load_messages"]

OutputT = TypeVar("OutputT", default=str)
MODEL_TIMEOUT = timedelta(minutes=10)
"""How long a model may take for its whole answer, unless the capability says otherwise."""

_given_handler: ContextVar[EventStreamHandler[Any] | None] = ContextVar(
    "agentdur_event_handler", default=None
)
_FRAMEWORK = "pydantic_ai."


class Durable(BaseDurabilityCapability[AgentDepsT]):
    """Makes an agent's runs durable in handlers of agentdur.

    `stream`: plain runs stream their requests too, for readers of the invocation's stream.
    `event_stream_handler`: sees model events live, and all others in steps of their own.
    `approvals`: True: a run waits for people and for deferred calls; False: it ends with the framework's
    DeferredToolRequests; None: it waits unless the agent's output types name DeferredToolRequests.
    `model_options`, `tool_options`: how failures are retried, instead of the invocation's policy.
    `allow_ephemeral`: runs outside of handlers are let through, without a journal.
    """

    engine_spec = DurabilityEngineSpec(
        engine_name="agentdur",
        durable_unit_noun="step",
        durable_container_noun="handler",
        codec=JSON_CODEC,
        serialization_failure=not_serializable,
        toolset_lifecycles={
            "function": "enter-never",
            "mcp": "enter-in-durable-unit",
            "dynamic": "enter-never",
        },
        tool_config_key="agentdur",
    )

    def __init__(
        self,
        *,
        models: Mapping[str, Model[Any]] | None = None,
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        name: str | None = None,
        stream: bool = False,
        approvals: bool | None = None,
        approval_timeout: timedelta | None = None,
        model_options: RunOptions[Any] | None = None,
        model_timeout: timedelta | None = MODEL_TIMEOUT,
        tool_options: ToolOptions | None = None,
        allow_ephemeral: bool = False,
    ) -> None:
        super().__init__(models=models, event_stream_handler=event_stream_handler, name=name)
        self.stream, self.allow_ephemeral = stream, allow_ephemeral
        self.approvals, self.approval_timeout = approvals, approval_timeout
        self._made = Made()
        self._configs = Configs(
            model=Options(model_options, model_timeout),
            tool=read_options(tool_options or {}, Options(), "Durable"),
        )

    # -- where a run stands

    @property
    def in_durable_context(self) -> bool:
        """True in a handler; inside a step the step is the journal's business."""
        return in_handler()

    async def for_run(self, ctx: RunContext[AgentDepsT]) -> AbstractCapability[AgentDepsT]:
        """NotInHandler where nothing would be journaled."""
        if not self.allow_ephemeral:
            require_handler()
        return await super().for_run(ctx)

    async def before_run(self, ctx: RunContext[AgentDepsT]) -> None:
        """Refuse what a replay could not repeat."""
        await super().before_run(ctx)
        older.refuse_compaction_outside_of_steps()
        if self.in_durable_context and getattr(ctx, "deadline", None) is not None:
            raise RunNotReplayable("a run's timeout= is not in the journal: limit its steps, or race it")

    async def wrap_run(self, ctx: RunContext[AgentDepsT], *, handler: WrapRunHandler) -> AgentRunResult[Any]:
        """Give the run its place in the journal."""
        if not self.in_durable_context or self.agent is None:
            return await super().wrap_run(ctx, handler=handler)
        current_run.set(begin(self.name))
        with ExitStack() as around:
            around.enter_context(Agent.using_sleep(durable_sleep))
            around.enter_context(self.agent.parallel_tool_call_execution_mode("parallel_ordered_events"))
            return await super().wrap_run(ctx, handler=handler)

    async def after_run(
        self, ctx: RunContext[AgentDepsT], *, result: AgentRunResult[Any]
    ) -> AgentRunResult[Any]:
        """The messages are the same on every attempt."""
        if self.in_durable_context:
            settle(result.all_messages(), ctx.run_id)
        return result

    async def on_run_error(self, ctx: RunContext[AgentDepsT], *, error: BaseException) -> AgentRunResult[Any]:
        """What every attempt would meet again ends the invocation, unless the handler catches it."""
        if not self.in_durable_context:
            raise error
        made = run_error(error)
        if made is error:
            raise error
        raise made from error

    # -- what a run would draw by itself

    def get_default_run_id(self) -> str | None:
        """The same on every attempt."""
        return default_run_id() if self.in_durable_context else None

    def get_default_conversation_id(self, run_id: str) -> str | None:
        """The same on every attempt."""
        if not self.in_durable_context:
            return None
        older.tell_replays()
        made: str = durable_exec.conversation_id_from_run_id(run_id)
        return made

    def get_run_clock(self) -> Callable[[], datetime] | None:
        """The engine's clock."""
        if not self.in_durable_context:
            return None
        driver = current_context()._attempt.driver
        return lambda: datetime.fromtimestamp(driver.now() / 1000, UTC)

    # -- steps

    def get_durable_operation_backend(self) -> DurableOperationBackend[Options]:
        """Operations become steps."""
        return Backend(
            agent_name=self.name, default_model_id=self.default_model_id, config=self._configs, models=self
        )

    async def wrap_model_request(
        self,
        ctx: RunContext[AgentDepsT],
        *,
        request_context: ModelRequestContext,
        handler: WrapModelRequestHandler,
    ) -> ModelResponse:
        """Inside a step, too, budgets and limits hold for what is asked."""
        if self.in_durable_context or not in_handler_or_step():
            return await super().wrap_model_request(ctx, request_context=request_context, handler=handler)
        return await ask_within_step(InStepClient(request_context.model, self, request_context, handler))

    async def before_model_request(
        self, ctx: RunContext[AgentDepsT], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Nobody but the journal's owner retries."""
        request_context = await super().before_model_request(ctx, request_context)
        if self.in_durable_context:
            settle(request_context.messages, ctx.run_id)
            given: ModelSettings = request_context.model_settings or {}
            request_context.model_settings = {**given, "max_retries": 0}
            older.without_retries(request_context.model)
        return request_context

    def get_wrapper_toolset(self, toolset: AbstractToolset[AgentDepsT]) -> AbstractToolset[AgentDepsT] | None:
        """Tools that came with the run are steps, too."""
        known = super().get_wrapper_toolset(toolset)
        if not self.in_durable_context:
            return known
        return (known or toolset).visit_and_replace(self._wrapped_for_run)

    def _wrapped_for_run(self, leaf: AbstractToolset[AgentDepsT]) -> AbstractToolset[AgentDepsT]:
        wrapped = self._wrap_leaf_toolset(leaf)
        if wrapped is None:
            return leaf
        if leaf.id is None:
            raise ToolsetWithoutId(f"{type(leaf).__name__} of agent '{self.name}'")
        return wrapped

    def _wrap_other_leaf_toolset(self, ts: AbstractToolset[AgentDepsT]) -> WrapperToolset[AgentDepsT] | None:
        """A toolset of the user's own: its calls are steps, its listing is not."""
        if type(ts).__module__.startswith(_FRAMEWORK) or isinstance(ts, ExternalToolset):
            return None
        return self._build_function_toolset(ts)  # type: ignore[arg-type]  # it uses call_tool and id only

    # -- models given to a run

    def _registered_model_id(self, model: Model[Any]) -> tuple[bool, str | None]:
        model = original(model)
        found, name = super()._registered_model_id(model)
        run = current_run.get()
        if not found and run is not None:
            name = next((name for name, known in run.models.items() if known is model), None)
            found = name is not None
        if not found:
            name = self._made.name_of(model)
            found = name is not None
        return found, name

    def _find_model_id(self, model: Model[Any]) -> str | None:
        """Steps run where the handler runs, so that any instance will do."""
        registered = [*self._models_by_id.values()]
        candidate: Any = model
        while candidate is not None:
            if any(candidate is known for known in registered):
                return super()._find_model_id(model)
            candidate = getattr(candidate, "wrapped", None)
        run = current_run.get()
        return super()._find_model_id(model) if run is None else run.name_of(model)

    async def resolve_model_id(
        self, ctx: ModelResolutionContext[AgentDepsT], *, model_id: str
    ) -> Model[Any] | None:
        """A model that was given to the run, or registered, or else one that is made by its name once, so
        that steps share its connections. Who else resolves names is asked before."""
        run = current_run.get()
        given = None if run is None else run.models.get(model_id)
        known = given if given is not None else await super().resolve_model_id(ctx, model_id=model_id)
        return known if known is not None or not in_handler_or_step() else self._made.model(model_id)

    async def _resolve_model_for_request(
        self, model_id: str | None, run_context: RunContext[AgentDepsT]
    ) -> Model[Any]:
        """In its step: the model, or the cheaper one that a budget goes on with."""
        other = going_on_with.get()
        return other or in_turns(await super()._resolve_model_for_request(model_id, run_context))

    def asked_model(
        self, model_id: str | None, asked_by: RunContext[Any] | None
    ) -> tuple[Model[Any] | None, str]:
        """The model of that id, when it is there, and its name in LiteLLM's words."""
        run = current_run.get()
        found = None if run is None or model_id is None else run.models.get(model_id)
        found = found or self._models_by_id.get(model_id or "default")
        asking = None if asked_by is None else asked_by.model
        if found is None and isinstance(asking, Model):
            found = asking
        if found is not None:
            return found, name_of(found)
        return None, name_of_id(model_id or "")

    def model_like(self, model: Model[Any], name: str) -> Model[Any]:
        """The cheaper model that a budget names: one that is registered, or of this one's provider."""
        registered = self._models_by_id.get(name)
        return registered if registered is not None else self._made.like(model, name, like)

    async def wrap_tool_execute(
        self,
        ctx: RunContext[AgentDepsT],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: dict[str, Any],
        handler: WrapToolExecuteHandler,
    ) -> Any:
        """A tool that runs inline has a branch of its own, named by its call."""
        inline = (tool_def.metadata or {}).get("agentdur") is False
        if not inline or not self.in_durable_context:
            return await handler(args)
        return await within(f"inline:{call.tool_call_id}", lambda: handler(args))

    # -- events

    @property
    def has_wrap_run_event_stream(self) -> bool:
        """True when somebody looks."""
        return self.stream or self._effective_event_stream_handler() is not None

    def _effective_event_stream_handler(self) -> EventStreamHandler[AgentDepsT] | None:
        handler = self._event_stream_handler or _given_handler.get()
        return sending(handler) if streaming.get() else handler

    # -- people

    async def handle_deferred_tool_calls(
        self, ctx: RunContext[AgentDepsT], *, requests: DeferredToolRequests
    ) -> DeferredToolResults | None:
        """Wait for those who decide, at no cost; or let the run end."""
        wait = self.approvals
        if wait is None:
            wait = self.agent is None or not ends_run(self.agent.output_type)
        if not wait or not self.in_durable_context:
            return None
        return await decided(requests, self.approval_timeout)


class DurableAgent(WrapperAgent[AgentDepsT, OutputT]):
    """An agent whose runs are durable; all else is the agent's own. Made by `durable`."""

    def __init__(self, wrapped: AbstractAgent[AgentDepsT, OutputT], capability: Durable[AgentDepsT]) -> None:
        super().__init__(wrapped)
        self.capability = capability

    @asynccontextmanager
    async def iter(self, *args: Any, **kwargs: Any) -> AsyncIterator[AgentRun[AgentDepsT, Any]]:
        """As the agent's own."""
        more = [*(kwargs.pop("capabilities", None) or ()), self.capability]
        async with self.wrapped.iter(*args, capabilities=more, **kwargs) as run:
            yield run

    async def run(self, *args: Any, **kwargs: Any) -> AgentRunResult[Any]:
        """As the agent's own; the event handler's calls are steps."""
        with _handler_of(kwargs):
            result: AgentRunResult[Any] = await super().run(*args, **kwargs)
            return result


@contextmanager
def _handler_of(kwargs: dict[str, Any]) -> Iterator[None]:
    if not in_handler():
        yield
        return
    token = _given_handler.set(kwargs.pop("event_stream_handler", None))
    try:
        yield
    finally:
        _given_handler.reset(token)


def durable(agent: AbstractAgent[AgentDepsT, OutputT], **options: Any) -> AbstractAgent[AgentDepsT, OutputT]:
    """The same agent, durable in handlers; `options` are those of Durable. The agent needs a name. One
    that is durable already stays as it is."""
    if Durable.from_agent(agent) is not None or isinstance(agent, DurableAgent):
        return agent
    return DurableAgent(agent, Durable(**options))
