"""The runner's ways in: what stands behind `Runner.run_async` once ADK is taken hold of.

Rules of this file:
1. In a handler every run is durable, those of agents in tools too. Outside, a run is refused where it was
   asked to be durable, unless ephemeral runs are allowed; inside a step it is always refused.
2. What was appended to a session is written before the code that runs the agent sees the event: a run that is
   left early leaves what it has told.
3. Exceptions keep their classes. Those that follow from the journal are terminal as well: retrying would
   bring them again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing
from datetime import timedelta
from typing import Any, Literal

from google.adk.agents.invocation_context import LlmCallsLimitExceededError
from google.adk.agents.run_config import StreamingMode  # type: ignore[attr-defined]  # where ADK has it
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.runners import Runner
from google.adk.sessions import BaseSessionService, InMemorySessionService
from pydantic import ValidationError

from agentdur.core.errors import NotInHandler
from agentdur.integrations.google_adk.errors import LiveRun, SessionsNotJournaled
from agentdur.integrations.google_adk.order import at_the_same_time, in_turn
from agentdur.integrations.google_adk.scope import Durability, Scope, current_scope
from agentdur.integrations.google_adk.seams import take_hold
from agentdur.integrations.google_adk.sessions import ObjectSessions
from agentdur.integrations.runs import Escape, RunInStep, SyncRun, beneath, ending
from agentdur.llm.errors import AnswerMisfit
from agentdur.llm.request import TIMEOUT
from agentdur.sdk.branch import current_branch
from agentdur.sdk.exceptions import RetryableError, TerminalError
from agentdur.sdk.step import current_context
from agentdur.sdk.steps import RunOptions

_REPEATED = (LlmCallsLimitExceededError, SessionNotFoundError, AlreadyExistsError)
"""Errors that follow from what the journal holds."""
_installed: list[Durability] = []


class DurableRunner(Runner):
    """ADK's runner, durable: the same arguments, and `durability`. Sessions are `ObjectSessions()` unless
    another service is given; a session that is not there yet is made."""

    def __init__(
        self,
        *,
        durability: Durability | None = None,
        session_service: BaseSessionService | None = None,
        auto_create_session: bool = True,
        **given: Any,
    ) -> None:
        hold()
        self.durability = durability or Durability()
        service = session_service or ObjectSessions()
        super().__init__(session_service=service, auto_create_session=auto_create_session, **given)


def install(
    *,
    approvals: Literal["park", "return"] = "park",
    approval_timeout: timedelta | None = None,
    inline_tools: Iterable[str] = (),
    tool_options: RunOptions[Any] | None = None,
    model_options: RunOptions[Any] | None = None,
    model_timeout: timedelta = TIMEOUT,
    allow_ephemeral: bool = False,
) -> Callable[[], None]:
    """Make `run_async` of every runner durable in handlers; outside of handlers it raises NotInHandler unless
    `allow_ephemeral`. See Durability for the rest. The answer undoes it. UnknownAdkVersion when this version
    of ADK cannot be made durable."""
    hold()
    how = Durability(
        approvals=approvals,
        approval_timeout=approval_timeout,
        inline_tools=frozenset(inline_tools),
        tool_options=tool_options,
        model_options=model_options,
        model_timeout=model_timeout,
        allow_ephemeral=allow_ephemeral,
    )
    _installed.append(how)

    def undo() -> None:
        if how in _installed:
            _installed.remove(how)

    return undo


def hold() -> None:
    """ADK is taken hold of: in handlers its runs are durable from here on."""
    take_hold(_durable_run, _no_sync_run, _no_live_run)


def _durable_run(original: Callable[..., AsyncGenerator[Event, None]]) -> Any:
    async def run_async(self: Runner, **given: Any) -> AsyncGenerator[Event, None]:
        """As ADK's: the events of a run, durable in a handler."""
        how = _how(self)
        if not _in_handler(self, how):
            async with aclosing(original(self, **given)) as events:
                async for event in events:
                    yield event
            return
        scope = await _scope(self, how, given.get("run_config"))
        context = scope.context
        told: AsyncIterator[Event] = _within(scope, original(self, **given))
        several = at_the_same_time(self.agent, how)
        if several:
            told = in_turn(context, told)
        try:
            async with aclosing(told) as events:  # type: ignore[type-var]  # both are generators
                async for event in events:
                    await _write(scope, event, several)
                    yield event
            await _write(scope)
        except BaseException as error:
            out = outward(scope, error)
            if isinstance(out, TerminalError) and not isinstance(error, Escape):
                await _write(scope)
            raise out from error.__cause__

    return run_async


async def _scope(runner: Runner, how: Durability, config: Any) -> Scope:
    """A new run under the current branch."""
    if config is not None and config.support_cfc:
        raise LiveRun("RunConfig(support_cfc=True)")
    service = runner.session_service
    if not isinstance(service, ObjectSessions | InMemorySessionService) and not getattr(
        service, "durable", False
    ):
        raise SessionsNotJournaled(type(service).__name__)
    context, branch = current_context(), current_branch()
    assert branch is not None
    child = branch.child(f"run:{runner.agent.name}".replace("/", "|"))
    around = current_scope()
    streamed = config is not None and config.streaming_mode == StreamingMode.SSE
    return Scope(context, child, around is not None, how, await context.time(), streamed)


async def _within(scope: Scope, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
    """The events; ADK's code runs as code of the run, the code between them does not."""
    try:
        while True:
            token = scope.enter()
            try:
                event = await anext(events)
            except StopAsyncIteration:
                return
            finally:
                scope.leave(token)
            yield event
    finally:
        token = scope.enter()
        try:
            await events.aclose()
        finally:
            scope.leave(token)


async def _write(scope: Scope, until: Event | None = None, several: bool = False) -> None:
    """Write what was appended, up to this event. With several agents at once, what others have told meanwhile
    waits for its turn; the user's words come first."""
    waiting = scope.appended
    if until is not None and all(one.event.id != until.id for one in waiting):
        return  # a fragment, or no event of a session
    while waiting:
        place = 0
        if several and until is not None and waiting[0].event.author != "user":
            place = next(number for number, one in enumerate(waiting) if one.event.id == until.id)
        one = waiting.pop(place)
        await one.write()
        if until is not None and one.event.id == until.id:
            return


def _how(runner: Runner) -> Durability:
    around = current_scope()
    own: Durability | None = getattr(runner, "durability", None)
    return own or (around.how if around is not None else _installed[-1] if _installed else Durability())


def _in_handler(runner: Runner, how: Durability) -> bool:
    branch = current_branch()
    if branch is None:
        asked = bool(_installed) or isinstance(runner, DurableRunner)
        if asked and not how.allow_ephemeral:
            raise NotInHandler("an agent runs durably in a handler only (or with allow_ephemeral=True)")
        return False
    if branch.in_step:
        raise RunInStep("Runner.run_async inside a step")
    return True


def outward(scope: Scope, error: BaseException) -> BaseException:
    """The error as the code around the run sees it."""
    if isinstance(error, Escape):
        return error if scope.nested else error.error
    if not isinstance(error, Exception):
        return error
    found = beneath(error)
    if found is not None and not isinstance(found, TerminalError):
        return Escape(found) if scope.nested else found  # worth another attempt, whoever would handle it
    if found is not None:
        return found
    if isinstance(error, ValidationError):  # of an agent's output_schema, or of a callback
        return AnswerMisfit(str(error), 500)
    if isinstance(error, _REPEATED) and not isinstance(error, TerminalError | RetryableError):
        return ending(error)
    return error


def _no_sync_run(original: Callable[..., Any]) -> Any:
    def run(self: Runner, **given: Any) -> Any:
        """As ADK's; refused in a handler."""
        if current_branch() is not None:
            raise SyncRun(f"Runner.run of agent '{self.agent.name}'")
        return original(self, **given)

    return run


def _no_live_run(original: Callable[..., Any]) -> Any:
    def run_live(self: Runner, *args: Any, **given: Any) -> Any:
        """As ADK's; refused in a handler."""
        if current_branch() is not None:
            raise LiveRun(f"Runner.run_live of agent '{self.agent.name}'")
        return original(self, *args, **given)

    return run_live
