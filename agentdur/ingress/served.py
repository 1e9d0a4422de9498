"""The catalog as the ingress needs it: names as bytes, checks and headers made ahead.

It is made again whenever the engine's catalog is another one, so nothing of this is done per request.
"""

from __future__ import annotations

from agentdur.core.catalog import Catalog, HandlerMeta, OutputRule, ServiceMeta
from agentdur.core.target import HandlerKind, Target
from agentdur.ingress.inputs import Check, input_check
from agentdur.ingress.replies import Header


class ServedHandler:
    """One handler, ready to be called."""

    __slots__ = ("_content_type", "_typed_if_empty", "check", "is_run", "meta", "public", "target")

    def __init__(self, service: ServiceMeta, handler: HandlerMeta) -> None:
        self.meta = handler
        self.public = service.public and handler.public
        self.is_run = handler.kind is HandlerKind.WORKFLOW
        self.check: Check = input_check(handler.input)
        self._content_type = _content_type(handler.output)
        self._typed_if_empty = handler.output.set_content_type_if_empty
        self.target = Target(service.name, handler.name, None, service.kind, handler.kind)

    def content_type_for(self, value: bytes) -> Header | None:
        """The header that goes with this output, or None."""
        return self._content_type if value or self._typed_if_empty else None

    def target_of(self, key: str | None) -> Target:
        """Where a call with this key goes."""
        if key is None:
            return self.target
        bare = self.target
        return Target(bare.service, bare.handler, key, bare.service_kind, bare.handler_kind)


class ServedService:
    """One service with its handlers by name."""

    __slots__ = ("handlers", "keyed", "meta", "run")

    def __init__(self, service: ServiceMeta) -> None:
        self.meta = service
        self.keyed = service.keyed
        self.handlers = {
            name.encode(): ServedHandler(service, meta) for name, meta in service.handlers.items()
        }
        self.run = next((handler for handler in self.handlers.values() if handler.is_run), None)


Services = dict[bytes, ServedService]


def serve(catalog: Catalog) -> Services:
    """All services by name; to callers from outside the internal ones do not exist."""
    return {name.encode(): ServedService(meta) for name, meta in catalog.shown.items()}


def _content_type(rule: OutputRule) -> Header | None:
    if rule.content_type is None:
        return None
    # A manifest may hold anything; what would break a header line never reaches it.
    printable = "".join(character for character in rule.content_type if character.isprintable())
    return (b"content-type", printable.encode("latin-1", "replace"))
