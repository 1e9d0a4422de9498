"""Which driver runs an attempt: the one of this process, or the one of deployments."""

from __future__ import annotations

from agentdur.core import journal as j
from agentdur.runtime.drivers.inproc import InProcess
from agentdur.runtime.drivers.remote import Remote
from agentdur.runtime.remote.attempt import RemoteAttempt
from agentdur.runtime.slots import Slot


class Router:
    """In front of both (`runtime.engine.Driver`), once there is a deployment."""

    def __init__(self, inproc: InProcess, remote: Remote) -> None:
        self._inproc, self._remote = inproc, remote

    def start(self, slot: Slot, attempt: int) -> None:
        """Handlers of this process run here, unless the invocation began elsewhere."""
        state = slot.state
        if state is None:
            return
        target = state.spec.target
        here = (target.service, target.handler) in self._inproc.served and state.head.deployment is None
        (self._inproc if here else self._remote).start(slot, attempt)

    def refuse(self, slot: Slot, error: j.Failure) -> None:
        """Whoever runs it fails it."""
        (self._remote if isinstance(slot.attempt, RemoteAttempt) else self._inproc).refuse(slot, error)

    def forget(self) -> None:
        """Memory is gone."""
        self._inproc.forget()
        self._remote.forget()
