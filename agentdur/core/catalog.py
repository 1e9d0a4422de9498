"""What is served: services, their handlers and options, as the engine and the frontends need them."""

from __future__ import annotations

from typing import Any, TypeAlias

from msgspec import Struct

from agentdur.core.ids import encode_id
from agentdur.core.retry import RetryPolicy
from agentdur.core.target import HandlerKind, ServiceKind, Target

Schema: TypeAlias = dict[str, Any] | bool
"""A JSON schema; `True` takes anything, `False` nothing."""
DAY_MS = 24 * 60 * 60 * 1000
INTERNAL_PREFIX = "agentdur."
"""Services whose names begin so are agentdur's own: handlers call them, nobody is shown them."""

IN_PROCESS = encode_id("dp", b"agentdur process")
"""The deployment that this process is, as people and clients are shown it; the same in every process."""
OWN_URI = "agentdur://in-process/"
"""Its address."""


def is_internal(service: str) -> bool:
    """True for agentdur's own services."""
    return service.startswith(INTERNAL_PREFIX)


class InputRule(Struct, frozen=True, kw_only=True):
    """What the ingress accepts (spec: discovery `input`). `void`: neither body nor content type."""

    content_type: str | None = "*/*"
    required: bool = False
    json_schema: Schema | None = None
    void: bool = False
    any: bool = False


class OutputRule(Struct, frozen=True, kw_only=True):
    """The answer's content type; None: never sent."""

    content_type: str | None = "application/json"
    set_content_type_if_empty: bool = False
    json_schema: Schema | None = None


class HandlerOptions(Struct, frozen=True, kw_only=True):
    """Times in ms. Resolved: handler, then service, then engine default."""

    inactivity_timeout_ms: int = 60_000
    abort_timeout_ms: int = 600_000
    journal_retention_ms: int = DAY_MS
    idempotency_retention_ms: int = DAY_MS
    workflow_retention_ms: int = DAY_MS
    lazy_state: bool = False
    retry: RetryPolicy = RetryPolicy()


class HandlerMeta(Struct, frozen=True, kw_only=True):
    """One handler. `said`: which of its options, and of their retry policy's fields, it gives itself.
    `notes`: (code, message) of what operators should know of it."""

    name: str
    kind: HandlerKind
    public: bool = True
    input: InputRule = InputRule()
    output: OutputRule = OutputRule()
    options: HandlerOptions = HandlerOptions()
    said: tuple[str, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()
    documentation: str = ""
    metadata: dict[str, str] = {}


class ServiceMeta(Struct, frozen=True, kw_only=True):
    """One service with its handlers by name. `options`: what its handlers inherit."""

    name: str
    kind: ServiceKind
    handlers: dict[str, HandlerMeta]
    public: bool = True
    options: HandlerOptions = HandlerOptions()
    notes: tuple[tuple[str, str], ...] = ()
    documentation: str = ""
    metadata: dict[str, str] = {}
    revision: int = 1
    deployment_id: str = IN_PROCESS

    @property
    def keyed(self) -> bool:
        """True when its handlers are addressed by key."""
        return self.kind is not ServiceKind.SERVICE


class Catalog(Struct, frozen=True):
    """All services by name."""

    services: dict[str, ServiceMeta] = {}

    @property
    def shown(self) -> dict[str, ServiceMeta]:
        """The services people are told of, by name: all but the internal ones."""
        return {name: meta for name, meta in self.services.items() if not is_internal(name)}

    def find(self, service: str, handler: str) -> HandlerMeta | None:
        """The handler, or None when it is not served."""
        meta = self.services.get(service)
        return None if meta is None else meta.handlers.get(handler)

    def target(self, service: str, handler: str, key: str | None = None, scope: str = "") -> Target | None:
        """A typed target, or None when it is not served."""
        meta = self.services.get(service)
        found = None if meta is None else meta.handlers.get(handler)
        if meta is None or found is None:
            return None
        return Target(service, handler, key, meta.kind, found.kind, scope)


EMPTY = Catalog()
