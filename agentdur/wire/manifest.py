"""Discovery: what a server reads from an endpoint's manifest, and what it refuses.

Rules of this file:
1. Unknown fields are refused, as the reference server does: an option that is not kept would be a lie.
2. Each refusal has the reference's status and code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec.structs import replace

from agentdur.core.catalog import HandlerMeta, HandlerOptions, InputRule, OutputRule, Schema, ServiceMeta
from agentdur.core.durations import format_duration
from agentdur.core.errors import DiscoveryFailed
from agentdur.core.target import HandlerKind, ServiceKind
from agentdur.wire.discovery import VERSION_MAX, VERSION_MIN
from agentdur.wire.values import DURATION_MS_MAX

TYPES = tuple(f"application/vnd.restate.endpointmanifest.v{n}+json" for n in (1, 2, 3, 4))
ACCEPT = ", ".join(TYPES)
_SERVICE_NAME = re.compile(r"([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9._-]*")
_HANDLER_NAME = re.compile(r"([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9_]*")
_VERSIONS_MAX = 2**31 - 1
_MS_MAX = 2**64 - 1
_Ms = int
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
_Factor = Annotated[float, msgspec.Meta(ge=0)]


class _Options(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    documentation: str | None = None
    metadata: dict[str, str] | None = None
    inactivity_timeout: _Ms | None = None
    abort_timeout: _Ms | None = None
    journal_retention: _Ms | None = None
    idempotency_retention: _Ms | None = None
    enable_lazy_state: bool | None = None
    ingress_private: bool | None = None
    retry_policy_initial_interval: _Ms | None = None
    retry_policy_max_interval: _Ms | None = None
    retry_policy_max_attempts: _Count | None = None
    retry_policy_exponentiation_factor: _Factor | None = None
    retry_policy_on_max_attempts: Literal["PAUSE", "KILL"] | None = None


class _Input(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    required: bool | None = None
    content_type: str | None = None
    json_schema: Any = None


class _Output(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    content_type: str | None = None
    set_content_type_if_empty: bool | None = None
    json_schema: Any = None


class _Handler(_Options, kw_only=True):
    name: str
    ty: Literal["WORKFLOW", "EXCLUSIVE", "SHARED"] | None = None
    input: _Input | None = None
    output: _Output | None = None
    workflow_completion_retention: _Ms | None = None


class _Service(_Options, kw_only=True):
    name: str
    ty: Literal["VIRTUAL_OBJECT", "SERVICE", "WORKFLOW"]
    handlers: list[_Handler]


class Manifest(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """What an endpoint says of itself."""

    protocol_mode: Literal["BIDI_STREAM", "REQUEST_RESPONSE"] | None = None
    min_protocol_version: int
    max_protocol_version: int
    services: list[_Service]
    lambda_compression: str | None = None


class Override(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an operator has set for a service in place of what its manifest says. Times in ms."""

    public: bool | None = None
    inactivity_timeout: int | None = None
    abort_timeout: int | None = None
    journal_retention: int | None = None
    idempotency_retention: int | None = None
    workflow_completion_retention: int | None = None


NOTHING_SET = Override()
_SERVICE_KINDS = {
    "SERVICE": ServiceKind.SERVICE,
    "VIRTUAL_OBJECT": ServiceKind.VIRTUAL_OBJECT,
    "WORKFLOW": ServiceKind.WORKFLOW,
}
_KINDS: dict[tuple[ServiceKind, str | None], HandlerKind] = {
    (ServiceKind.SERVICE, None): HandlerKind.PLAIN,
    (ServiceKind.SERVICE, "SHARED"): HandlerKind.PLAIN,
    (ServiceKind.VIRTUAL_OBJECT, None): HandlerKind.EXCLUSIVE,
    (ServiceKind.VIRTUAL_OBJECT, "EXCLUSIVE"): HandlerKind.EXCLUSIVE,
    (ServiceKind.VIRTUAL_OBJECT, "SHARED"): HandlerKind.SHARED,
    (ServiceKind.WORKFLOW, None): HandlerKind.SHARED,
    (ServiceKind.WORKFLOW, "SHARED"): HandlerKind.SHARED,
    (ServiceKind.WORKFLOW, "WORKFLOW"): HandlerKind.WORKFLOW,
}


def parse_manifest(content_type: str, body: bytes) -> Manifest:
    """The manifest; DiscoveryFailed when it is none, or of versions that nobody speaks here."""
    if content_type not in TYPES:
        raise DiscoveryFailed(f"unexpected content type {content_type!r} of the manifest", 500, "META0013")
    try:
        manifest = msgspec.json.decode(body, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DiscoveryFailed(f"the manifest cannot be decoded: {error}") from error
    low, high = manifest.min_protocol_version, manifest.max_protocol_version
    if low < 1 or high < 1:
        raise DiscoveryFailed(f"the manifest cannot be decoded: protocol versions {low} to {high}")
    if manifest.protocol_mode is None or low > high or high > _VERSIONS_MAX:
        raise DiscoveryFailed("the manifest has no protocol mode, or no range of versions", 500, "META0013")
    if low > VERSION_MAX or high < VERSION_MIN:
        spoken = f"{VERSION_MIN} to {VERSION_MAX}"
        raise DiscoveryFailed(
            f"the endpoint speaks protocol versions {low} to {high}, this server {spoken}", 500, "META0012"
        )
    for service in manifest.services:
        names = [(_SERVICE_NAME, service.name), *((_HANDLER_NAME, h.name) for h in service.handlers)]
        for pattern, name in names:
            if not pattern.fullmatch(name):
                raise DiscoveryFailed(f"the manifest cannot be decoded: bad name {name!r}")
    return manifest


def check_new(manifest: Manifest) -> None:
    """DiscoveryFailed for what a new deployment may not say. One that was registered before this was checked
    is still read, and served."""
    if manifest.lambda_compression not in (None, "zstd"):
        raise DiscoveryFailed(f"the manifest cannot be decoded: compression {manifest.lambda_compression!r}")
    for service in manifest.services:
        for level in (service, *service.handlers):
            for name in _TIMES:
                if not 0 <= (getattr(level, name, None) or 0) <= _MS_MAX:
                    raise DiscoveryFailed(f"the manifest cannot be decoded: {name} is out of range")
        for handler in service.handlers:
            place = f"{service.name}/{handler.name}"
            if handler.input is not None and handler.input.content_type == "":
                raise DiscoveryFailed(f"{place} has an empty input content type", 400)
            for rule in (handler.input, handler.output):
                if rule is not None and not isinstance(rule.json_schema, dict | bool | None):
                    raise DiscoveryFailed(f"{place} has a JSON schema that is none", 400)


def schemas_of(manifest: Manifest) -> Iterator[tuple[str, Schema]]:
    """(Service/handler, schema) of all that goes in and out."""
    for service in manifest.services:
        for handler in service.handlers:
            for rule in (handler.input, handler.output):
                if rule is not None and (schema := _schema(rule.json_schema)) is not None:
                    yield f"{service.name}/{handler.name}", schema


def services_of(
    manifest: Manifest,
    defaults: HandlerOptions,
    deployment: str,
    revisions: dict[str, int],
    overrides: dict[str, Override] | None = None,
) -> dict[str, ServiceMeta]:
    """The services as the engine knows its own, by name; `revisions` has the revision of each."""
    found = {}
    for given in manifest.services:
        meta = _service(given, defaults, (overrides or {}).get(given.name, NOTHING_SET))
        if manifest.protocol_mode == "REQUEST_RESPONSE":
            meta = _never_waiting(meta, given)
        found[given.name] = replace(meta, deployment_id=deployment, revision=revisions.get(given.name, 1))
    return found


def _never_waiting(meta: ServiceMeta, given: _Service) -> ServiceMeta:
    """Its attempts leave at once when they have to wait."""
    handlers = dict(meta.handlers)
    for said in given.handlers:
        known = handlers[said.name]
        handlers[said.name] = replace(
            known, options=replace(known.options, inactivity_timeout_ms=0), notes=_unused(said, "handler"),
            said=tuple(name for name in known.said if name != "inactivity_timeout_ms"),
        )  # fmt: skip
    options = replace(meta.options, inactivity_timeout_ms=0)
    return replace(meta, handlers=handlers, options=options, notes=_unused(given, "service"))


def _unused(given: _Options, what: str) -> tuple[tuple[str, str], ...]:
    if not given.inactivity_timeout:
        return ()
    told = format_duration(min(given.inactivity_timeout, DURATION_MS_MAX))
    because = f"will not be applied because the {what} is exposed in Request/Response mode."
    return (("RT0021", f"The configured inactivity_timeout {told} {because}"),)


def _service(given: _Service, defaults: HandlerOptions, override: Override) -> ServiceMeta:
    lowered = given.name.lower()
    if lowered.startswith("restate") or lowered == "openapi":
        raise DiscoveryFailed(f"the service name {given.name!r} is reserved", 400, "META0005")
    kind = _SERVICE_KINDS[given.ty]
    options = _over(given, defaults, override)
    public = not given.ingress_private
    for handler in given.handlers:
        if not public and handler.ingress_private is False:
            raise DiscoveryFailed(f"{given.name}/{handler.name} cannot be public in a private service", 400)
    if override.public is not None:
        public = override.public
    handlers = {}
    for handler in given.handlers:
        made = _handler(handler, kind, options, given.name)
        kept = override.workflow_completion_retention
        if made.kind is HandlerKind.WORKFLOW and kept is not None:
            made = replace(made, options=replace(made.options, workflow_retention_ms=kept))
        handlers[handler.name] = replace(made, public=public and made.public)
    return ServiceMeta(
        name=given.name, kind=kind, handlers=handlers, public=public, options=options,
        documentation=given.documentation or "", metadata=given.metadata or {},
    )  # fmt: skip


def _handler(given: _Handler, service: ServiceKind, defaults: HandlerOptions, name: str) -> HandlerMeta:
    place = f"{name}/{given.name}"
    kind = _KINDS.get((service, given.ty))
    if kind is None:
        raise DiscoveryFailed(f"{place} cannot be {given.ty} in a {service.value}", 400)
    options = _over(given, defaults)
    if kind is HandlerKind.WORKFLOW:
        if given.idempotency_retention is not None:
            raise DiscoveryFailed(f"{place} is a workflow and has no idempotency retention", 400)
    elif given.workflow_completion_retention is not None:
        raise DiscoveryFailed(f"{place} is no workflow and has no workflow retention", 400)
    if given.workflow_completion_retention is not None:
        options = replace(options, workflow_retention_ms=_bounded(given.workflow_completion_retention))
    return HandlerMeta(
        name=given.name, kind=kind, public=not given.ingress_private, options=options, said=_said(given),
        input=_input(given.input, place), output=_output(given.output),
        documentation=given.documentation or "", metadata=given.metadata or {},
    )  # fmt: skip


def _input(given: _Input | None, place: str) -> InputRule:
    if given is None:
        return InputRule(any=True)
    if given.content_type is None and not given.required:
        return InputRule(content_type=None, void=True)
    content_type = (given.content_type or "*/*").strip()
    kind, slash, kind_of_kind = content_type.partition("/")
    if not (kind and slash and kind_of_kind):
        raise DiscoveryFailed(f"{place} has the bad input content type {content_type!r}", 400)
    return InputRule(
        content_type=content_type, required=bool(given.required), json_schema=_schema(given.json_schema)
    )  # fmt: skip


def _output(given: _Output | None) -> OutputRule:
    if given is None:
        return OutputRule()
    if given.content_type is None:
        return OutputRule(content_type=None)
    return OutputRule(
        content_type=given.content_type, set_content_type_if_empty=bool(given.set_content_type_if_empty),
        json_schema=_schema(given.json_schema),
    )  # fmt: skip


def _schema(given: Any) -> Schema | None:
    return given if isinstance(given, dict | bool) else None


_TIMES = {
    "inactivity_timeout": "inactivity_timeout_ms",
    "abort_timeout": "abort_timeout_ms",
    "journal_retention": "journal_retention_ms",
    "idempotency_retention": "idempotency_retention_ms",
    "workflow_completion_retention": "workflow_retention_ms",
    "retry_policy_initial_interval": "delay_ms_initial",
    "retry_policy_max_interval": "delay_ms_max",
}
_SAID = _TIMES | {
    "enable_lazy_state": "lazy_state",
    "retry_policy_exponentiation_factor": "factor",
    "retry_policy_max_attempts": "attempts_max",
    "retry_policy_on_max_attempts": "on_exhausted",
}


def _said(given: _Options) -> tuple[str, ...]:
    """What it says itself, in the words of the engine's options."""
    return tuple(ours for theirs, ours in _SAID.items() if getattr(given, theirs, None) is not None)


def _over(given: _Options, inherited: HandlerOptions, override: Override = NOTHING_SET) -> HandlerOptions:
    times = {
        "inactivity_timeout_ms": _bounded(given.inactivity_timeout),
        "abort_timeout_ms": _bounded(given.abort_timeout),
        "journal_retention_ms": _bounded(given.journal_retention),
        "idempotency_retention_ms": _bounded(given.idempotency_retention),
        "lazy_state": given.enable_lazy_state,
    }
    retries = {
        "delay_ms_initial": _bounded(given.retry_policy_initial_interval),
        "delay_ms_max": _bounded(given.retry_policy_max_interval),
        "factor": given.retry_policy_exponentiation_factor,
        "attempts_max": None if (most := given.retry_policy_max_attempts) is None else max(1, most),
    }
    policy = replace(inherited.retry, **{name: value for name, value in retries.items() if value is not None})
    if given.retry_policy_on_max_attempts is not None:
        on_exhausted: Any = given.retry_policy_on_max_attempts.lower()
        policy = replace(policy, on_exhausted=on_exhausted)
    changed: dict[str, Any] = {name: value for name, value in times.items() if value is not None}
    for name in ("inactivity_timeout", "abort_timeout", "journal_retention", "idempotency_retention"):
        if (set_to := getattr(override, name)) is not None:
            changed[f"{name}_ms"] = set_to
    return replace(inherited, **changed, retry=policy)


def _bounded(ms: int | None) -> int | None:
    """Some languages say "for ever" with the largest number they have."""
    return None if ms is None else min(ms, DURATION_MS_MAX)
