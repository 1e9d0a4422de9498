"""The runner: what stands behind `Runner.run` when durability is installed.

Rules of this file:
1. In a handler every run is durable, those in tools, guardrails and hooks too. Outside, a run is refused
   where it was asked to be durable, unless ephemeral runs are allowed; inside a step it is always refused.
2. Exceptions keep their classes. Those that follow from the journal (a tripped guardrail, too many turns) are
   terminal as well: retrying would bring them again.
3. What the SDK draws by chance and sends to a provider is given from the invocation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agents import run as run_module
from agents.exceptions import AgentsException, UserError
from agents.result import RunResult, RunResultStreaming
from agents.run import AgentRunner, get_default_agent_runner, set_default_agent_runner
from agents.run_config import RunConfig, _coerce_run_config
from agents.run_state import RunState

from agentdur.core.errors import NotInHandler
from agentdur.integrations.openai_agents.approvals import decide
from agentdur.integrations.openai_agents.scope import Durability, Scope, close_scope, open_scope
from agentdur.integrations.openai_agents.seams import take_hold
from agentdur.integrations.openai_agents.streaming import DurableStream
from agentdur.integrations.openai_agents.tracing import trace_id_of
from agentdur.integrations.runs import Escape, RunInStep, SyncRun, beneath, ending
from agentdur.sdk.branch import current_branch
from agentdur.sdk.exceptions import RetryableError, TerminalError

_ONLY_NEW = ("context", "max_turns", "previous_response_id", "auto_previous_response_id", "conversation_id")
"""Arguments of a run that a resumed one takes from its state."""


class DurableAgentRunner(AgentRunner):
    """Runs agents durably in handlers; elsewhere as `strict` and the durability say. `inner` runs them as
    they are."""

    def __init__(self, inner: AgentRunner, how: Durability, strict: bool) -> None:
        self.inner, self.how, self.strict = inner, how, strict

    async def run(self, starting_agent: Any, input: Any, **kwargs: Any) -> RunResult:
        """As `Runner.run`."""
        how = kwargs.pop("durability", None)
        if not self._in_handler(how):
            return await self.inner.run(starting_agent, input, **kwargs)
        scope, token = open_scope(_name(starting_agent, input), how, self.how)
        try:
            given = _with_config(scope, kwargs)
            result = await self.inner.run(starting_agent, input, **given)
            while result.interruptions and scope.how.approvals == "park":
                state = result.to_state()
                await decide(scope, state, result.interruptions)
                result = await self.inner.run(starting_agent, state, **_resumed(given))
            return result
        except BaseException as error:
            raise outward(scope, error) from error.__cause__
        finally:
            close_scope(token)

    def run_streamed(self, starting_agent: Any, input: Any, **kwargs: Any) -> RunResultStreaming:
        """As `Runner.run_streamed`: the events come after each model step, its deltas went out live by
        `ctx.stream`."""
        how = kwargs.pop("durability", None)
        if not self._in_handler(how):
            return self.inner.run_streamed(starting_agent, input, **kwargs)
        scope, token = open_scope(_name(starting_agent, input), how, self.how, streamed=True)
        try:
            given = _with_config(scope, kwargs)
            first = self.inner.run_streamed(starting_agent, input, **given)
        except BaseException as error:
            raise outward(scope, error) from error.__cause__
        finally:
            close_scope(token)

        def resume(state: RunState[Any]) -> RunResultStreaming:
            return _scoped(scope, lambda: self.inner.run_streamed(starting_agent, state, **_resumed(given)))

        stream: Any = DurableStream(scope, first, resume, outward)
        return stream  # type: ignore[no-any-return]  # it stands for several of them

    def run_sync(self, starting_agent: Any, input: Any, **kwargs: Any) -> RunResult:
        """Refused in a handler."""
        how = kwargs.pop("durability", None)
        if self._in_handler(how):
            raise SyncRun(f"agent '{_name(starting_agent, input)}'")
        return self.inner.run_sync(starting_agent, input, **kwargs)

    def _in_handler(self, how: Durability | None) -> bool:
        branch = current_branch()
        if branch is None:
            if (self.strict or how is not None) and not (how or self.how).allow_ephemeral:
                raise NotInHandler("an agent runs durably in a handler only (or with allow_ephemeral=True)")
            return False
        if branch.in_step:
            raise RunInStep("Runner.run inside a step")
        return True


def runner(how: Durability, strict: bool) -> DurableAgentRunner:
    """A durable runner over the one that was the default before; the SDK is taken hold of."""
    take_hold()
    there = get_default_agent_runner()
    inner = there.inner if isinstance(there, DurableAgentRunner) else there
    return DurableAgentRunner(inner, how, strict)


def make_default(made: DurableAgentRunner) -> Callable[[], None]:
    """Let plain `Runner.run` be this one; the answer takes it back."""
    before = run_module.DEFAULT_AGENT_RUNNER
    set_default_agent_runner(made)

    def undo() -> None:
        if run_module.DEFAULT_AGENT_RUNNER is made:
            set_default_agent_runner(before)

    return undo


def outward(scope: Scope, error: BaseException) -> BaseException:
    """The error as the code around the run sees it."""
    if isinstance(error, Escape):
        return error if scope.nested else error.error
    if not isinstance(error, Exception):
        return error
    found = beneath(error)
    if found is not None and found is not error:
        return Escape(found) if scope.nested else found
    if isinstance(error, AgentsException) and not isinstance(
        error, UserError | TerminalError | RetryableError
    ):
        return ending(error)
    return error


def _name(agent: Any, given: Any) -> str:
    current = getattr(given, "_current_agent", None) if isinstance(given, RunState) else None
    return str((current or agent).name)


def _with_config(scope: Scope, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments, with a run config that draws nothing by chance."""
    given = kwargs.get("run_config")
    config: RunConfig = RunConfig() if given is None else _coerce_run_config(given)
    changes: dict[str, Any] = {}
    if not scope.how.tracing:
        changes["tracing_disabled"] = True
    if config.trace_id is None:
        changes["trace_id"] = trace_id_of(scope.key)
    if config.group_id is None:
        changes["group_id"] = scope.key  # the key of the provider's prompt cache is made of it
    return {**kwargs, "run_config": replace(config, **changes)}


def _resumed(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in _ONLY_NEW}


def _scoped(scope: Scope, make: Callable[[], RunResultStreaming]) -> RunResultStreaming:
    """Start it as code of the run."""
    token = scope.enter()
    try:
        return make()
    finally:
        close_scope(token)
