"""Sessions of ADK in the state of a virtual object: events are appended, one value each.

Rules of this file:
1. An event is written once, under a name that is never used again: N turns write O(N) bytes. Beside the
   events there is one value for the session (how many events, its state), one for `app:` and one for `user:`
   state. The object's key is the border: what is shared is shared within it.
2. Events that are read make no entry: what is under a name does not change.
3. In a run, events are written when the run has put them in order; elsewhere at once.
4. What was deleted leaves the state with the next invocation that uses the object: until then a replay of
   this one may read it.
5. Where a handler has no state (a plain service), sessions last as long as the invocation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.sessions import InMemorySessionService
from google.adk.sessions.base_session_service import (
    BaseSessionService,
    GetSessionConfig,
    ListSessionsResponse,
)
from google.adk.sessions.session import Session
from google.adk.sessions.state import State

from agentdur.integrations.google_adk.codec import Data, plain
from agentdur.integrations.google_adk.errors import SessionReadOnly
from agentdur.integrations.google_adk.scope import Scope, current_scope
from agentdur.integrations.runs import ending
from agentdur.sdk.context import Context, ObjectContext, ObjectSharedContext, WorkflowContext
from agentdur.sdk.once import once_written
from agentdur.sdk.step import current_context

_LIST, _GONE = "adk:sessions", "adk:gone"
_TICK = 1e-6
"""Seconds between two events, at least."""


@dataclass(frozen=True, slots=True)
class Appended:
    """An event of a run, to be written when its place is known."""

    service: ObjectSessions
    session: Session
    event: Event

    async def write(self) -> None:
        """Now."""
        await self.service._write(self.session, self.event)


class ObjectSessions(BaseSessionService):
    """`Runner(…, session_service=ObjectSessions())`: made once, used in any handler. In an exclusive handler
    of a virtual object (or the run of a workflow) conversations are kept with its key."""

    def __init__(self) -> None:
        self._passing = InMemorySessionService()

    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> Session:
        """A new session; AlreadyExistsError when there is one of that id."""
        context: Any = current_context()
        name = (session_id or "").strip() or str(context.uuid())
        if not _keeps(context):
            return await self._passing.create_session(
                app_name=app_name, user_id=user_id, state=state, session_id=name
            )
        writable = _writable(context)
        await _sweep(writable)
        listed: list[list[str]] = await writable.get(_LIST) or []
        if [app_name, user_id, name] in listed:
            raise ending(AlreadyExistsError(f"Session with id {name} already exists."))
        now = await writable.time()
        head: Data = {"epoch": writable.uuid().hex[:12], "events": 0, "updated": now, "state": {}}
        parts = _Parts(app_name, user_id, name)
        await _apply(writable, parts, head, state or {})
        writable.set(parts.head, head)
        writable.set(_LIST, [*listed, [app_name, user_id, name]])
        session = await self.get_session(app_name=app_name, user_id=user_id, session_id=name)
        assert session is not None
        return session

    async def get_session(
        self, *, app_name: str, user_id: str, session_id: str, config: GetSessionConfig | None = None
    ) -> Session | None:
        """The session with its events, or those the config asks for; None when there is none."""
        context: Any = current_context()
        if not _keeps(context):
            return await self._passing.get_session(
                app_name=app_name, user_id=user_id, session_id=session_id, config=config
            )
        if not isinstance(context, ObjectSharedContext):
            await _sweep(_writable(context))
        parts = _Parts(app_name, user_id, session_id.strip())
        head: Data | None = await context.get(parts.head)
        if head is None:
            return None
        _heads(context)[parts.head] = head
        session = await self._session(context, parts, head)
        session.events = await _events(context, head, config)
        for one in _not_written(current_scope(), session):
            session.events.append(one.event)
            session.state.update(one.event.actions.state_delta)
        return session

    async def list_sessions(self, *, app_name: str, user_id: str | None = None) -> ListSessionsResponse:
        """Those of a user, or of all; without their events, the one that was used last comes last."""
        context: Any = current_context()
        if not _keeps(context):
            return await self._passing.list_sessions(app_name=app_name, user_id=user_id)
        found = []
        for app, user, name in await context.get(_LIST) or []:
            parts = _Parts(app, user, name)
            if app == app_name and user_id in (None, user):
                found.append(await self._session(context, parts, await context.get(parts.head)))
        found.sort(key=lambda session: (session.last_update_time, session.user_id, session.id))
        return ListSessionsResponse(sessions=found)

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Forget a session; nothing when there is none."""
        context: Any = current_context()
        if not _keeps(context):
            await self._passing.delete_session(app_name=app_name, user_id=user_id, session_id=session_id)
            return
        writable = _writable(context)
        await _sweep(writable)
        parts = _Parts(app_name, user_id, session_id)
        head: Data | None = await writable.get(parts.head)
        if head is None:
            return
        listed: list[list[str]] = await writable.get(_LIST) or []
        gone: Data = await writable.get(_GONE) or {"events": []}
        swept = {
            "by": str(writable.invocation_id),
            "events": [*gone["events"], [head["epoch"], head["events"]]],
        }
        writable.set(_GONE, swept)
        writable.set(_LIST, [one for one in listed if one != [app_name, user_id, session_id]])
        writable.clear(parts.head)
        _heads(writable).pop(parts.head, None)

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """What is kept for a user under `user:`, without that prefix."""
        context: Any = current_context()
        if not _keeps(context):
            return await self._passing.get_user_state(app_name=app_name, user_id=user_id)
        return dict(await context.get(_Parts(app_name, user_id, "").user) or {})

    async def append_event(self, session: Session, event: Event) -> Event:
        """Append, as ADK does; a fragment is left out."""
        context: Any = current_context()
        if not _keeps(context):
            return await self._passing.append_event(session, event)
        if event.partial:
            return event
        scope = current_scope()
        if scope is None:  # made by the handler itself, whose clock is not the same on a replay
            event.timestamp = await _writable(context).time()
        await BaseSessionService.append_event(self, session, event)
        session.last_update_time = event.timestamp
        appended = Appended(self, session, event)
        if scope is None:
            await appended.write()
        else:
            scope.appended.append(appended)
        return event

    async def _write(self, session: Session, event: Event) -> None:
        context = _writable(current_context())
        parts = _Parts(session.app_name, session.user_id, session.id)
        head = _heads(context).get(parts.head) or await context.get(parts.head)
        if head is None:
            raise ending(SessionNotFoundError(f"Session {session.id} not found."))
        event.timestamp = max(event.timestamp, head["updated"] + _TICK)  # agents that work at once: one clock
        session.last_update_time = event.timestamp
        context.set(_event(head["epoch"], head["events"]), plain(event))
        head = {**head, "events": head["events"] + 1, "updated": event.timestamp}
        await _apply(context, parts, head, plain(event.actions).get("stateDelta", {}))
        context.set(parts.head, head)
        _heads(context)[parts.head] = head

    async def _session(self, context: Any, parts: _Parts, head: Data) -> Session:
        state = dict(head["state"])
        for prefix, name in ((State.APP_PREFIX, parts.app), (State.USER_PREFIX, parts.user)):
            shared = await context.get(name) or {}
            state |= {prefix + key: value for key, value in shared.items()}
        return Session(
            id=parts.session, app_name=parts.app_name, user_id=parts.user_id, state=state,
            last_update_time=head["updated"],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Parts:
    """The names of what is kept."""

    app_name: str
    user_id: str
    session: str

    @property
    def head(self) -> str:
        return f"adk:session:{self.app_name}/{self.user_id}/{self.session}"

    @property
    def app(self) -> str:
        return f"adk:app:{self.app_name}"

    @property
    def user(self) -> str:
        return f"adk:user:{self.app_name}/{self.user_id}"


_HEADS: WeakKeyDictionary[Any, dict[str, Data]] = WeakKeyDictionary()


def _heads(context: Any) -> dict[str, Data]:
    """What this attempt knows of its sessions: reading it again for each event would journal it again."""
    return _HEADS.setdefault(context._attempt, {})


def _event(epoch: str, number: int) -> str:
    return f"adk:event:{epoch}:{number:08}"


async def _events(context: Any, head: Data, config: GetSessionConfig | None) -> list[Event]:
    """Those that are asked for, oldest first."""
    first = 0
    if config is not None and config.num_recent_events is not None:
        first = max(0, head["events"] - config.num_recent_events)
    after = None if config is None else config.after_timestamp
    found: list[Event] = []
    for number in range(head["events"] - 1, first - 1, -1):
        event = Event.model_validate(await once_written(context, _event(head["epoch"], number)))
        if after is not None and event.timestamp < after:
            break
        found.append(event)
    return found[::-1]


async def _apply(context: Any, parts: _Parts, head: Data, delta: Data) -> None:
    """What changes of the state, where it belongs; `temp:` is nobody's."""
    own = {k: v for k, v in delta.items() if not k.startswith((State.APP_PREFIX, State.USER_PREFIX, "temp:"))}
    head["state"] = {**head["state"], **own}
    for prefix, name in ((State.APP_PREFIX, parts.app), (State.USER_PREFIX, parts.user)):
        shared = {key.removeprefix(prefix): value for key, value in delta.items() if key.startswith(prefix)}
        if shared:
            context.set(name, {**(await context.get(name) or {}), **shared})


async def _sweep(context: Any) -> None:
    """Clear what an earlier invocation deleted."""
    gone = await context.get(_GONE)
    if gone is not None and gone["by"] != str(context.invocation_id):
        for epoch, events in gone["events"]:
            for number in range(events):
                context.clear(_event(epoch, number))
        context.clear(_GONE)


def _not_written(scope: Scope | None, session: Session) -> list[Appended]:
    """Of the run that goes on: what belongs to this session."""
    waiting: list[Appended] = [] if scope is None else scope.appended
    mine = (session.app_name, session.user_id, session.id)
    return [one for one in waiting if (one.session.app_name, one.session.user_id, one.session.id) == mine]


def _keeps(context: Context) -> bool:
    """True where there is state."""
    return isinstance(context, ObjectContext | ObjectSharedContext | WorkflowContext)


def _writable(context: Context) -> Any:
    if isinstance(context, ObjectSharedContext):
        raise SessionReadOnly(f"{context._attempt.target}")
    return context
