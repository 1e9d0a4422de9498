"""Services of this process whose options an operator has set otherwise.

Rules of this file:
1. What was set holds as long as the service is declared as it was then; declared otherwise, the code counts.
2. What a handler says for itself counts before what is set for its service.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec
from msgspec.structs import asdict, replace

from agentdur.core.catalog import Catalog, HandlerMeta, HandlerOptions, ServiceMeta, is_internal
from agentdur.core.errors import BadRequest
from agentdur.core.target import HandlerKind, ObjectAddress, ServiceKind
from agentdur.wire.manifest import NOTHING_SET, Override

KEPT_IN = "agentdur.Services"
"""What was set is kept as state: a key for each service, one value."""
KEPT_AS = "override"
KEPT_MAX = 10_000


class _Kept(msgspec.Struct, frozen=True):
    declared: str
    override: Override


_decode = msgspec.json.Decoder(_Kept).decode


def kept_at(service: str) -> ObjectAddress:
    """Where what was set for it is kept."""
    return ObjectAddress(KEPT_IN, service)


class OwnServices:
    """What this process serves, and what was set for it."""

    def __init__(self, declared: Catalog) -> None:
        self._declared = declared
        self._set: dict[str, Override] = {}
        self.catalog = declared
        """The services as they are served."""

    def load(self, kept: Iterable[tuple[str, bytes]]) -> bool:
        """What was set before; whether any of it still holds."""
        for service, data in kept:
            meta, found = self._declared.services.get(service), _decode(data)
            if meta is not None and found.declared == fingerprint(meta):
                self._set[service] = found.override
        self._serve()
        return bool(self._set)

    def merged(self, service: str, override: Override) -> bytes | None:
        """What is to be kept, None when nothing changes; BadRequest for what cannot be set."""
        meta = self._declared.services[service]
        if is_internal(service):
            raise BadRequest(f"service {service} is agentdur's own: it is not configured")
        check_retention(meta, override)
        before = self._set.get(service, NOTHING_SET)
        after = merge(before, override)
        return None if after == before else msgspec.json.encode(_Kept(fingerprint(meta), after))

    def put(self, service: str, kept: bytes) -> None:
        """It is kept: serve it so."""
        self._set[service] = _decode(kept).override
        self._serve()

    def _serve(self) -> None:
        declared = self._declared.services
        changed = {name: overridden(declared[name], override) for name, override in self._set.items()}
        self.catalog = Catalog({**declared, **changed})


def merge(before: Override, override: Override) -> Override:
    """What is said now before what was said before."""
    said = {name: value for name, value in asdict(override).items() if value is not None}
    return replace(before, **said)


def check_retention(meta: ServiceMeta, override: Override) -> None:
    """BadRequest when a workflow's option is set for another service."""
    if override.workflow_completion_retention is not None and meta.kind is not ServiceKind.WORKFLOW:
        raise BadRequest(f"modifying retention time for service type {meta.kind.value} is unsupported")


def fingerprint(meta: ServiceMeta) -> str:
    """Tells declarations apart that differ in more than their words for people."""
    handlers = {name: replace(one, documentation="") for name, one in meta.handlers.items()}
    bare = replace(meta, documentation="", handlers=handlers)
    return hashlib.sha256(msgspec.json.encode(bare, order="deterministic")).hexdigest()[:32]


def overridden(meta: ServiceMeta, override: Override) -> ServiceMeta:
    """The service with these options."""
    public = meta.public if override.public is None else override.public
    return replace(
        meta, public=public, options=_over(meta.options, (), override),
        handlers={name: _handler(one, public, override) for name, one in meta.handlers.items()},
    )  # fmt: skip


def _handler(meta: HandlerMeta, public: bool, override: Override) -> HandlerMeta:
    options = _over(meta.options, meta.said, override)
    kept = override.workflow_completion_retention
    if meta.kind is HandlerKind.WORKFLOW and kept is not None:
        options = replace(options, workflow_retention_ms=kept)
    return replace(meta, public=public and (meta.public or "public" not in meta.said), options=options)


def _over(options: HandlerOptions, said: tuple[str, ...], override: Override) -> HandlerOptions:
    changed = {
        f"{name}_ms": value
        for name in ("inactivity_timeout", "abort_timeout", "journal_retention", "idempotency_retention")
        if (value := getattr(override, name)) is not None and f"{name}_ms" not in said
    }
    return replace(options, **changed) if changed else options
