"""The loop: ask the model, run the tools it wants, tell it what they said, until it answers or hands over.

Rules of this file:
1. Model calls and tool calls are the only steps; the rest is computed from them, the same on each replay.
2. Every tool call of a model is answered before the model is asked again: no torn pair is ever sent.
3. One hand-over counts, the first; the others of that turn are refused in words.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, TypeAlias

from agentdur.agent.agent import Agent, Target, handoff_spec
from agentdur.agent.result import AgentRun
from agentdur.core.errors import NotInHandler
from agentdur.llm import ModelAnswer, ToolCall, Usage, completion
from agentdur.llm.call import within_a_handler
from agentdur.sdk.context import Context
from agentdur.sdk.exceptions import TerminalError
from agentdur.sdk.step import current_context
from agentdur.sdk.stream import stream
from agentdur.tools import Tool, run_tools
from agentdur.tools.answer import tell as tell_result

Message: TypeAlias = dict[str, Any]
BeforeModel: TypeAlias = Callable[[list[Message]], Awaitable[Sequence[Mapping[str, Any]]]]


ONE_COUNTS = {"error": "one hand-over at a time: the first of this turn counts"}


class TooManyTurns(TerminalError):
    """The agent came to no answer within its turns_max."""

    KIND = "too_many_turns"


class Tally:
    """What the model calls of a run have used; a run inside a tool adds to the run around it as well."""

    __slots__ = ("cost", "turns", "usage", "within")

    def __init__(self, within: Tally | None) -> None:
        self.within, self.usage, self.turns = within, Usage(), 0
        self.cost: float | None = None

    def add(self, usage: Usage, cost: float | None) -> None:
        """One more answer, or the whole of a run elsewhere."""
        mine = self.usage
        self.usage = Usage(
            prompt_tokens=mine.prompt_tokens + usage.prompt_tokens,
            completion_tokens=mine.completion_tokens + usage.completion_tokens,
            cached_tokens=mine.cached_tokens + usage.cached_tokens,
            reasoning_tokens=mine.reasoning_tokens + usage.reasoning_tokens,
        )
        if cost is not None:
            self.cost = (self.cost or 0.0) + cost
        if self.within is not None:
            self.within.add(usage, cost)


_tally: ContextVar[Tally | None] = ContextVar("agentdur_tally", default=None)
"""The run that is going on in this task; tools run in tasks of its own that inherit it."""


def current_tally() -> Tally | None:
    """The tally of the run around the code that asks."""
    return _tally.get()


async def run_agent(
    ctx: Context | None,
    agent: Agent,
    messages: str | Sequence[Mapping[str, Any]],
    *,
    stream: bool = False,
    before_model: BeforeModel | None = None,
    log: list[Message] | None = None,
    allow_ephemeral: bool = False,
) -> AgentRun:
    """Run the agent on a conversation (or on one user message) until it answers.

    `ctx` None: the handler that is running; outside of one NotInHandler, unless `allow_ephemeral` says that
    nothing need be journaled. `stream`: what models say and tools answer goes out live, see `ctx.stream`.
    `before_model` is told the conversation before each model call
    and may answer messages to put before it: what it says must come from the journal (a signal, state).
    `log` is what new messages are appended to as they come: a run that is cancelled or fails leaves there
    what was said until then.

    TooManyTurns after `turns_max` model calls; ModelRefused when the provider refuses for good; a tool's own
    TerminalError.
    """
    context = ctx
    if ctx is None and (within_a_handler() or not allow_ephemeral):
        context = current_context()
    said = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
    tally = Tally(_tally.get())
    token = _tally.set(tally)
    try:
        live = stream and context is not None
        run = _Run(context, agent, [dict(message) for message in said], tally, live, before_model, log)
        return await run.go()
    finally:
        _tally.reset(token)


class _Run:
    """One run: the conversation as it grows, and who speaks."""

    def __init__(
        self,
        context: Context | None,
        agent: Agent,
        given: list[Message],
        tally: Tally,
        *how: Any,
    ) -> None:
        self.context, self.first, self.agent, self.given, self.tally = context, agent, agent, given, tally
        self.stream: bool = how[0]
        self.before_model: BeforeModel | None = how[1]
        self.new: list[Message] = [] if how[2] is None else how[2]
        self.reason = "stop"

    async def go(self) -> AgentRun:
        """Turn after turn."""
        while self.tally.turns < self.first.turns_max:
            targets = self.agent.targets()
            answer = await self._ask(targets)
            self.new.append(answer.message)
            if not answer.tool_calls:
                return self._ended(self._output(answer), answer.text)
            done = await self._act(answer.tool_calls, targets)
            if done is not None:
                return done
        what = f"agent '{self.first.name}': no answer after {self.first.turns_max} turns"
        raise TooManyTurns(what, 500, {"kind": TooManyTurns.KIND, "agent": self.first.name})

    async def _ask(self, targets: Mapping[str, Target]) -> ModelAnswer:
        if self.before_model is not None:
            added = await self.before_model([*self.given, *self.new])
            self.new += [dict(message) for message in added]
        agent = self.agent
        system = await agent.system()
        start: list[Message] = [{"role": "system", "content": system}] if system else []
        settings = dict(agent.settings)
        if self.stream:
            settings["stream"] = True
        tools: list[Tool | dict[str, Any]] = [*agent.tools]
        tools += [handoff_spec(name, target) for name, target in targets.items()]
        answer = await completion(
            self.context, agent.model, [*start, *self.given, *self.new], tools, agent.output,
            role=agent.name, allow_ephemeral=self.context is None, **settings,
        )  # fmt: skip
        self.tally.turns += 1
        self.tally.add(answer.usage, answer.cost)
        self.reason = answer.finish_reason
        return answer

    def _output(self, answer: ModelAnswer) -> Any:
        return answer.text if self.agent.output is None else answer.parsed(self.agent.output)

    def _ended(self, output: Any, text: str, agent: str = "") -> AgentRun:
        tally = self.tally
        return AgentRun(
            output=output, text=text, messages=self.new, agent=agent or self.agent.name, turns=tally.turns,
            usage=tally.usage, cost=tally.cost, finish_reason=self.reason,
        )  # fmt: skip

    async def _act(self, calls: Sequence[ToolCall], targets: Mapping[str, Target]) -> AgentRun | None:
        """Run the tools, and hand over if that is wanted; the end, if another agent elsewhere came to it."""
        over = next((call for call in calls if call.name in targets), None)
        ordinary = [call for call in calls if call.name not in targets]
        told = await run_tools(
            self.context, ordinary, self.agent.tools, stream=self.stream,
            allow_ephemeral=self.context is None,
        )  # fmt: skip
        answers = dict(zip(map(id, ordinary), told, strict=True))  # a model may give two calls one id
        for call in calls:
            if call.name in targets:
                word = {"assistant": targets[call.name].name} if call is over else ONE_COUNTS
                answers[id(call)] = {"role": "tool", "tool_call_id": call.id, "content": json.dumps(word)}
                if self.stream:
                    tell_result(call, answers[id(call)]["content"], failed=call is not over)
        self.new += [answers[id(call)] for call in calls]
        if over is None:
            return None
        target = targets[over.name]
        if self.stream:
            stream({"type": "agent", "name": target.name})
        if isinstance(target, Agent):
            self.agent = target
            return None
        if self.context is None:
            raise NotInHandler(f"agent '{target.name}' runs behind a handler, and is called from one")
        run = await target.go_on(self.context, [*self.given, *self.new])
        self.tally.turns += run.turns
        self.tally.add(run.usage, run.cost)
        self.new += run.messages
        return self._ended(run.output, run.text, run.agent)
