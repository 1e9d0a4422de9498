"""The two ways in: `install()` for plain `Runner.run`, and `DurableRunner` beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Literal

from agents.result import RunResult, RunResultStreaming
from agents.run import get_default_agent_runner

from agentdur.integrations.openai_agents.runner import DurableAgentRunner, make_default, runner
from agentdur.integrations.openai_agents.scope import Durability
from agentdur.sdk.steps import RunOptions


def install(
    *,
    approvals: Literal["park", "return"] = "park",
    approval_timeout: timedelta | None = None,
    inline_tools: Iterable[str] = (),
    tool_options: RunOptions[Any] | None = None,
    model_options: RunOptions[Any] | None = None,
    allow_ephemeral: bool = False,
    tracing: bool = False,
) -> Callable[[], None]:
    """Make plain `Runner.run` and `Runner.run_streamed` durable in handlers, wherever they are called;
    outside of handlers they raise NotInHandler unless `allow_ephemeral`. See Durability for the rest. The
    answer undoes it. UnknownAgentsVersion when this version of the SDK cannot be made durable."""
    how = Durability(
        approvals=approvals,
        approval_timeout=approval_timeout,
        inline_tools=frozenset(inline_tools),
        tool_options=tool_options,
        model_options=model_options,
        allow_ephemeral=allow_ephemeral,
        tracing=tracing,
    )
    return make_default(runner(how, strict=True))


def _ready() -> DurableAgentRunner:
    """The durable default runner; with nothing installed one that leaves code outside of handlers alone. Runs
    inside of tools and guardrails reach the default runner, so it has to be ours."""
    there = get_default_agent_runner()
    if isinstance(there, DurableAgentRunner):
        return there
    made = runner(Durability(), strict=False)
    make_default(made)
    return made


class DurableRunner:
    """`Runner`, made durable: the same methods with the same arguments, and `durability`."""

    @classmethod
    async def run(
        cls, starting_agent: Any, input: Any, *, durability: Durability | None = None, **kwargs: Any
    ) -> RunResult:
        """As `Runner.run`. NotInHandler outside of a handler, unless the durability allows it."""
        return await _ready().run(starting_agent, input, durability=durability or _chosen(), **kwargs)

    @classmethod
    def run_streamed(
        cls, starting_agent: Any, input: Any, *, durability: Durability | None = None, **kwargs: Any
    ) -> RunResultStreaming:
        """As `Runner.run_streamed`."""
        return _ready().run_streamed(starting_agent, input, durability=durability or _chosen(), **kwargs)

    @classmethod
    def run_sync(
        cls, starting_agent: Any, input: Any, *, durability: Durability | None = None, **kwargs: Any
    ) -> RunResult:
        """As `Runner.run_sync`, which a handler cannot call: SyncRun there."""
        return _ready().run_sync(starting_agent, input, durability=durability or _chosen(), **kwargs)


def _chosen() -> Durability:
    """What was installed, or the default."""
    return _ready().how
