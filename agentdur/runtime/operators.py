"""What operators may ask: one invocation, many by what they have in common, a key's state.

Rules of this file:
1. A dry run asks the same rules (`core.machine`) and throws the answer away.
2. What is refused has changed nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from agentdur.core import commands as c
from agentdur.core import journal as j
from agentdur.core.catalog import IN_PROCESS
from agentdur.core.errors import (
    BadRequest,
    JournalGone,
    NotForWorkflows,
    TooEarly,
    UnknownInvocation,
    ValueTooLarge,
    WrongStatus,
)
from agentdur.core.ids import BadId, InvocationId, parse_id
from agentdur.core.machine import apply
from agentdur.core.machine.operate import check_resumed
from agentdur.core.ports import Filter, Operation, Page, Row, Selection, Store
from agentdur.core.state import Edit, Invocation, Status
from agentdur.core.target import HandlerKind, ObjectAddress
from agentdur.runtime import views
from agentdur.runtime.edits import Wanted, edited
from agentdur.runtime.engine import Machine
from agentdur.runtime.remote.deployments import Deployments
from agentdur.runtime.slots import Slot

BEFORE = (Status.SCHEDULED, Status.INBOXED)

ROWS_PER_READ = 500
ROWS_READ_MAX = 20_000
"""Stored invocations one selection looks at; who wants the rest asks again, after the last one."""


class Owner(Protocol):
    """What is needed of the engine."""

    store: Store
    deployments: Deployments

    @property
    def entry_size(self) -> int:
        """The largest payload, bytes."""

    def serves(self, service: str, handler: str) -> bool:
        """Whether this process runs the handler."""

    def slot(self, invocation: InvocationId) -> tuple[Slot, Invocation]:
        """What is known of it; UnknownInvocation."""

    def traceparent(self, new: InvocationId) -> str:
        """The trace context of a new invocation."""

    def durable(self, number: int | None = None) -> Awaitable[None]:
        """Until a commit (default: the one being collected) is done."""


class Operators:
    """Interventions in one machine."""

    def __init__(self, owner: Owner, machine: Machine) -> None:
        self._owner, self._machine = owner, machine

    # -- one invocation

    async def operate(
        self, action: Operation, invocation: InvocationId, deployment: str, *, dry_run: bool
    ) -> bool:
        """See core.ports.Engine.operate."""
        check_form(deployment)
        _, state = self._owner.slot(invocation)
        status = state.head.status
        begun = status not in BEFORE
        if action in ("cancel", "kill") and status is Status.COMPLETED:
            raise WrongStatus(f"The invocation '{invocation}' was already completed.")
        chosen = self._resumed_at(state, self._meant(state, deployment)) if action == "resume" else None
        messages: dict[Operation, c.ToInvocation] = {
            "cancel": c.SignalTo(invocation, j.CANCEL_SIGNAL, j.VOID),
            "kill": c.Kill(invocation),
            "pause": c.Pause(invocation),
            "resume": c.Resume(invocation, chosen),
            "purge": c.Purge(invocation),
            "purge-journal": c.Purge(invocation, journal_only=True),
        }
        machine = self._machine
        if dry_run:
            apply(state, messages[action], machine.world.now(), machine.catalog)
        else:
            machine.dispatch(messages[action])
            await self._owner.durable()
        if action == "pause":
            return status is not Status.INVOKED
        return not (action == "cancel" and begun)

    def _resumed_at(self, state: Invocation, wanted: str) -> str | None:
        """Where it goes on; the status is judged before anybody looks for a deployment."""
        own = self._serves(state)
        if wanted == "keep" or (wanted == "latest" and own):
            return state.head.deployment
        check_resumed(state, elsewhere=True)
        if wanted != "latest" and state.head.deployment is None:
            return wanted  # the machine refuses it
        return self._chosen(state, wanted)[0]

    def _meant(self, state: Invocation, wanted: str) -> str:
        """This process by its id is what `latest` is for handlers that run here."""
        return "latest" if wanted == IN_PROCESS and self._serves(state) else wanted

    def _serves(self, state: Invocation) -> bool:
        target = state.spec.target
        return self._owner.serves(target.service, target.handler)

    def _chosen(self, state: Invocation, wanted: str) -> tuple[str | None, int | None]:
        """(deployment, protocol version) to go on with; nothing for the handlers of this process."""
        target, head = state.spec.target, state.head
        if wanted == "keep":
            return head.deployment, head.protocol
        if wanted == "latest" and (self._serves(state) or head.deployment is None):
            return None, None
        found = self._owner.deployments.chosen(wanted, target.service, head.protocol)
        return found.id, head.protocol

    async def restart_as_new(
        self,
        invocation: InvocationId,
        from_entry: int,
        deployment: str,
        *,
        dry_run: bool = False,
        wanted: Wanted | None = None,
    ) -> InvocationId:
        """See core.ports.Engine.restart_as_new, and `fork`, which is this with what is `wanted`."""
        check_form(deployment)
        slot, state = self._owner.slot(invocation)
        _check_restarted(state, forked=wanted is not None)
        await self._owner.durable(slot.touched)
        row = self._owner.store.invocation(invocation)
        if row is None:
            raise UnknownInvocation(invocation)
        entries = self._owner.store.journal(row.seq)
        if wanted is not None:
            told, most = self._owner.store.conversation, self._owner.entry_size
            entries, from_entry = edited(invocation, entries, wanted, told, most)
        prefix = views.prefix(entries, from_entry)
        if prefix is None:
            raise BadRequest(f"from={from_entry} is not an entry whose commands are all completed")
        spec = state.spec
        begins_at, protocol = None, None  # the newest, whichever that is then
        if deployment != "latest":
            begins_at, protocol = self._chosen(state, self._meant(state, deployment))
        if dry_run:
            return invocation
        new = self._machine.names.beside(invocation)
        self._machine.dispatch(
            c.Submit(
                id=new, target=spec.target, invoked_by="restart_as_new", prefix=prefix,
                restarted_from=invocation, completion_retention_ms=spec.completion_retention_ms,
                journal_retention_ms=spec.journal_retention_ms, deployment=begins_at, protocol=protocol,
                traceparent=self._owner.traceparent(new),
            )
        )  # fmt: skip
        await self._owner.durable()
        return new

    # -- many

    async def select(self, which: Selection) -> Page:
        """See core.ports.Engine.select."""
        fits = _fitting(self._machine, which)
        found: list[dict[str, Any]] = []
        after, read = which.after, 0
        while True:
            size = min(ROWS_PER_READ, ROWS_READ_MAX - read)
            if size <= 0:
                return Page(found, after)
            rows = list(self._owner.store.list(_stored(which, size, after)))
            for row in rows:
                after = row.seq
                if not fits(row):
                    continue
                found.append(views.summary(self._machine, row))
                if len(found) >= which.limit:
                    return Page(found, after)
            if len(rows) < size:
                return Page(found, None)
            read += size
            await asyncio.sleep(0)  # who runs goes first

    # -- state

    async def edit_state(self, key: ObjectAddress, values: dict[str, bytes], version: str | None) -> None:
        """See core.ports.Engine.edit_state."""
        machine = self._machine
        machine.check_alive()
        for name, value in values.items():
            if len(value) > self._owner.entry_size:
                raise ValueTooLarge(
                    f"the state value {name!r} has {len(value)} bytes, the limit is {self._owner.entry_size} "
                    "(entry-size-limit)"
                )
        machine.dispatch(c.EditState(key, Edit(tuple(sorted(values.items())), version)))
        await self._owner.durable()

    def version_of(self, values: dict[str, bytes]) -> str:
        """What tells this state of a key from others."""
        return self._machine.names.version_of(values)


def _check_restarted(state: Invocation, forked: bool) -> None:
    """One that runs goes on writing; one that rests is only read by a fork."""
    invocation, status = state.spec.id, state.head.status
    if status in BEFORE:
        raise TooEarly(f"The invocation '{invocation}' cannot be restarted because it's not running yet.")
    if state.spec.target.handler_kind is HandlerKind.WORKFLOW:
        raise NotForWorkflows(invocation)
    rests = status is Status.COMPLETED or (forked and status in (Status.SUSPENDED, Status.PAUSED))
    if not rests:
        raise WrongStatus(f"The invocation '{invocation}' is still running.")
    if not state.journal_kept:
        raise JournalGone(invocation)


def check_form(deployment: str) -> None:
    """BadRequest when it is neither `keep` nor `latest`, nor what an id looks like."""
    if deployment not in ("keep", "latest"):
        try:
            parse_id("dp", deployment)
        except BadId as error:
            raise BadRequest(f"deployment: {deployment!r} is none: {error}") from error


_STORED = {"ready": "running", "backing-off": "running", "succeeded": "completed", "failed": "completed"}
"""The status in the store of those that are told apart by more than that."""


def _stored(which: Selection, limit: int, after: int | None) -> Filter:
    statuses = tuple(dict.fromkeys(_STORED.get(one, one) for one in which.statuses))
    return Filter(
        service=which.service, handler=which.handler, key=which.key, deployment=which.deployment,
        statuses=statuses, internal=which.internal, limit=limit, after_seq=after,
    )  # fmt: skip


def _fitting(machine: Machine, which: Selection) -> Callable[[Row], bool]:
    """Whether a stored invocation is one that is wanted, beyond what the store has looked at."""
    wanted = frozenset(which.statuses)
    since, until = which.created_after, which.created_before

    def fits(row: Row) -> bool:
        at = row.spec.created_at
        if (since is not None and at <= since) or (until is not None and at >= until):
            return False
        if not wanted:
            return True
        status = views.shown_status(machine, row)
        if status != "completed":
            return status in wanted
        return bool({status, "succeeded" if isinstance(row.head.result, j.Success) else "failed"} & wanted)

    return fits
