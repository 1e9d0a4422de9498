"""Discovery: what an endpoint says it serves (the manifest).

Rules of this file:
1. Options that nobody gave are left out: they are the server's.
2. An older manifest has fewer fields. Descriptions may be left out; options that change what happens may not:
   a server that cannot be told of them is not served.
"""

from __future__ import annotations

import re
from typing import Any, Literal, TypeAlias

import msgspec

from agentdur.core.catalog import Catalog, HandlerMeta, HandlerOptions, InputRule, OutputRule, ServiceMeta
from agentdur.core.target import HandlerKind, ServiceKind
from agentdur.wire.frames import BODY_BYTES_MAX

Mode: TypeAlias = Literal["BIDI_STREAM", "REQUEST_RESPONSE"]
Version: TypeAlias = Literal[1, 2, 3, 4]
VERSION_MIN, VERSION_MAX = 5, 7
MANIFEST_BYTES_MAX = BODY_BYTES_MAX

_TYPE = "application/vnd.restate.endpointmanifest.v{}+json"
_LISTED = re.compile(r"application/vnd\.restate\.endpointmanifest\.v([1-4])\+json")
_SERVICE_TYPES = {
    ServiceKind.SERVICE: "SERVICE",
    ServiceKind.VIRTUAL_OBJECT: "VIRTUAL_OBJECT",
    ServiceKind.WORKFLOW: "WORKFLOW",
}
_HANDLER_TYPES = {
    HandlerKind.EXCLUSIVE: "EXCLUSIVE", HandlerKind.SHARED: "SHARED", HandlerKind.WORKFLOW: "WORKFLOW",
}  # fmt: skip
VERSION_NEWEST: Version = 4
_MAY_BE_LOST = frozenset({"documentation", "metadata", "enableLazyState"})
_DESCRIBED_FROM, _TIMED_FROM, _RETRIED_FROM = 2, 3, 4


def accepted_version(accept: str) -> int | None:
    """The newest manifest that the server takes and we can write; None when there is none."""
    listed = [int(found) for found in _LISTED.findall(accept)]
    return max(listed, default=None)


def write_manifest(catalog: Catalog, mode: Mode, version: int) -> tuple[str, bytes]:
    """(content type, body)."""
    manifest = {
        "protocolMode": mode,
        "minProtocolVersion": VERSION_MIN,
        "maxProtocolVersion": VERSION_MAX,
        "services": [_service(meta, version) for meta in catalog.services.values()],
    }
    return _TYPE.format(version), msgspec.json.encode(manifest)


def unsayable(catalog: Catalog, version: int) -> list[str]:
    """What a manifest of this version cannot say, as `Service/handler: field`; empty for the newest."""
    found: list[str] = []
    for meta in catalog.services.values():
        found += _lost(meta.name, _service(meta, VERSION_NEWEST), _service(meta, version))
        for one in meta.handlers.values():
            place = f"{meta.name}/{one.name}"
            found += _lost(place, _handler(one, VERSION_NEWEST), _handler(one, version))
    return found


def _lost(place: str, whole: dict[str, Any], said: dict[str, Any]) -> list[str]:
    return [f"{place}: {name}" for name in whole if name not in said and name not in _MAY_BE_LOST]


def _service(meta: ServiceMeta, version: int) -> dict[str, Any]:
    out: dict[str, Any] = {
        "name": meta.name,
        "ty": _SERVICE_TYPES[meta.kind],
        "handlers": [_handler(handler, version) for handler in meta.handlers.values()],
    }
    if version >= _DESCRIBED_FROM:
        out |= _described(meta.documentation, meta.metadata)
    if version >= _TIMED_FROM and not meta.public:
        out["ingressPrivate"] = True
    return out | _inherited(meta.options, version)


def _handler(meta: HandlerMeta, version: int) -> dict[str, Any]:
    out: dict[str, Any] = {"name": meta.name, "input": _input(meta.input), "output": _output(meta.output)}
    if meta.kind is not HandlerKind.PLAIN:
        out["ty"] = _HANDLER_TYPES[meta.kind]
    if version >= _DESCRIBED_FROM:
        out |= _described(meta.documentation, meta.metadata)
    if version >= _TIMED_FROM and not meta.public:
        out["ingressPrivate"] = True
    return out | _own(meta, version)


def _described(documentation: str, metadata: dict[str, str]) -> dict[str, Any]:
    given = {"documentation": documentation, "metadata": metadata}
    return {name: value for name, value in given.items() if value}


def _input(rule: InputRule) -> dict[str, Any]:
    if rule.void:
        return {}
    out: dict[str, Any] = {"required": rule.required, "contentType": rule.content_type or "*/*"}
    if rule.json_schema is not None:
        out["jsonSchema"] = rule.json_schema
    return out


def _output(rule: OutputRule) -> dict[str, Any]:
    if rule.content_type is None:
        return {}
    out: dict[str, Any] = {
        "contentType": rule.content_type,
        "setContentTypeIfEmpty": rule.set_content_type_if_empty,
    }
    if rule.json_schema is not None:
        out["jsonSchema"] = rule.json_schema
    return out


_SHARED_TIMES = {
    "inactivityTimeout": "inactivity_timeout_ms",
    "abortTimeout": "abort_timeout_ms",
    "journalRetention": "journal_retention_ms",
    "idempotencyRetention": "idempotency_retention_ms",
    "enableLazyState": "lazy_state",
}
_TIMES = _SHARED_TIMES | {"workflowCompletionRetention": "workflow_retention_ms"}
_RETRIES = {
    "retryPolicyInitialInterval": "delay_ms_initial",
    "retryPolicyMaxInterval": "delay_ms_max",
    "retryPolicyMaxAttempts": "attempts_max",
    "retryPolicyExponentiationFactor": "factor",
}


def _inherited(options: HandlerOptions, version: int) -> dict[str, Any]:
    """What a service says for its handlers: all that differs from what a server does anyway."""
    usual = HandlerOptions()
    out: dict[str, Any] = {}
    if version >= _TIMED_FROM:
        out |= _changed(options, usual, _SHARED_TIMES)
    if version >= _RETRIED_FROM:
        out |= _changed(options.retry, usual.retry, _RETRIES)
        if options.retry.on_exhausted != usual.retry.on_exhausted:
            out["retryPolicyOnMaxAttempts"] = options.retry.on_exhausted.upper()
    return out


def _own(meta: HandlerMeta, version: int) -> dict[str, Any]:
    """What a handler says for itself."""
    options = meta.options
    out: dict[str, Any] = {}
    if version >= _TIMED_FROM:
        out |= {sent: getattr(options, name) for sent, name in _TIMES.items() if name in meta.said}
    if version >= _RETRIED_FROM:
        out |= {sent: getattr(options.retry, name) for sent, name in _RETRIES.items() if name in meta.said}
        if "on_exhausted" in meta.said:
            out["retryPolicyOnMaxAttempts"] = options.retry.on_exhausted.upper()
    return out


def _changed(given: Any, usual: Any, named: dict[str, str]) -> dict[str, Any]:
    pairs = {sent: (getattr(given, name), getattr(usual, name)) for sent, name in named.items()}
    return {sent: value for sent, (value, default) in pairs.items() if value != default and value is not None}
