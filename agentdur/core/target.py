"""Where an invocation goes: service, handler, key."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from msgspec import Struct


class ServiceKind(Enum):
    """The three service types; the value is the name used by the admin API."""

    SERVICE = "Service"
    VIRTUAL_OBJECT = "VirtualObject"
    WORKFLOW = "Workflow"


class HandlerKind(Enum):
    """How a handler may run: PLAIN handlers belong to plain services."""

    PLAIN = "Plain"
    EXCLUSIVE = "Exclusive"
    SHARED = "Shared"
    WORKFLOW = "Workflow"


class ObjectAddress(NamedTuple):
    """One key of a virtual object or workflow: owns a lock, an inbox and a state."""

    service: str
    key: str
    scope: str = ""


class PromiseAddress(NamedTuple):
    """One durable promise of one workflow key."""

    service: str
    key: str
    name: str
    scope: str = ""


class Target(Struct, frozen=True, gc=False):
    """`Service/handler` or `Object/key/handler`, with what the handler is allowed to do."""

    service: str
    handler: str
    key: str | None = None
    service_kind: ServiceKind = ServiceKind.SERVICE
    handler_kind: HandlerKind = HandlerKind.PLAIN
    scope: str = ""

    @property
    def object(self) -> ObjectAddress:
        """The key this target addresses; only for keyed targets."""
        assert self.key is not None
        return ObjectAddress(self.service, self.key, self.scope)

    def __str__(self) -> str:
        middle = "" if self.key is None else f"/{self.key}"
        return f"{self.service}{middle}/{self.handler}"
