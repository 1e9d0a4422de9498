"""Services and handlers as the admin API shows them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter

from agentdur.core.catalog import HandlerMeta, HandlerOptions, InputRule, OutputRule, ServiceMeta
from agentdur.core.durations import format_duration
from agentdur.core.errors import UnknownHandler, UnknownService
from agentdur.core.ports import Engine
from agentdur.core.retry import RetryPolicy
from agentdur.core.target import HandlerKind, ServiceKind

Json = dict[str, Any]
OpenApi = Callable[[ServiceMeta], Json]


def instant_ns(ms: int) -> str:
    """RFC 3339 with nine digits, UTC."""
    at = datetime.fromtimestamp(ms / 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03}000000Z"


def services_routes(engine: Engine, openapi: OpenApi | None) -> APIRouter:
    """The routes; `openapi` makes the document of one service's ingress routes."""
    routes = APIRouter(tags=["services"])

    def found(service: str) -> ServiceMeta:
        meta = engine.catalog.services.get(service)
        if meta is None:
            raise UnknownService(service)
        return meta

    @routes.get("/services")
    async def list_services() -> Json:
        """All services that are served; those that are agentdur's own are found by name only."""
        return {"services": [service_view(meta) for meta in engine.catalog.shown.values()]}

    @routes.get("/services/{service}")
    async def get_service(service: str) -> Json:
        """One service."""
        return service_view(found(service))

    @routes.get("/services/{service}/handlers")
    async def list_handlers(service: str) -> Json:
        """The handlers of a service."""
        return {"handlers": service_view(found(service))["handlers"]}

    @routes.get("/services/{service}/handlers/{handler}")
    async def get_handler(service: str, handler: str) -> Json:
        """One handler."""
        meta = found(service)
        if handler not in meta.handlers:
            raise UnknownHandler(f"{service}/{handler}")
        return handler_view(meta.handlers[handler])

    if openapi is not None:

        @routes.get("/services/{service}/openapi")
        async def get_openapi(service: str) -> Json:
            """The OpenAPI document of a service's ingress routes."""
            return openapi(found(service))

    return routes


def service_view(meta: ServiceMeta) -> Json:
    """ServiceMetadata: the service's own options, and of its handlers what they say for themselves."""
    shared = meta.options
    view: Json = {
        "name": meta.name,
        "ty": meta.kind.value,
        "handlers": [handler_view(meta.handlers[name]) for name in sorted(meta.handlers)],
        "deployment_id": meta.deployment_id,
        "revision": meta.revision,
        "public": meta.public,
        "idempotency_retention": format_duration(shared.idempotency_retention_ms),
        "journal_retention": format_duration(shared.journal_retention_ms),
        "inactivity_timeout": format_duration(shared.inactivity_timeout_ms),
        "abort_timeout": format_duration(shared.abort_timeout_ms),
        "enable_lazy_state": shared.lazy_state,
        "retry_policy": retry_view(shared.retry),
    }
    if meta.kind is ServiceKind.WORKFLOW:
        view["workflow_completion_retention"] = format_duration(_run_options(meta).workflow_retention_ms)
    if meta.notes:
        view["info"] = [{"code": code, "message": message} for code, message in meta.notes]
    if meta.documentation:
        view["documentation"] = meta.documentation
    if meta.metadata:
        view["metadata"] = meta.metadata
    return view


def handler_view(meta: HandlerMeta) -> Json:
    """One handler, with the options that it does not inherit."""
    own = meta.options
    view: Json = {"name": meta.name}
    if meta.kind is not HandlerKind.PLAIN:
        view["ty"] = meta.kind.value
    view |= {
        "public": meta.public,
        "input_description": _described(meta.input),
        "output_description": _described(meta.output),
    }
    for name, schema in (
        ("input_json_schema", meta.input.json_schema),
        ("output_json_schema", meta.output.json_schema),
    ):
        if schema is not None:
            view[name] = schema
    for name in ("idempotency_retention", "journal_retention", "inactivity_timeout", "abort_timeout"):
        if f"{name}_ms" in meta.said:
            view[name] = format_duration(getattr(own, f"{name}_ms"))
    if "lazy_state" in meta.said:
        view["enable_lazy_state"] = own.lazy_state
    retries = retry_view(own.retry)
    view["retry_policy"] = {"max_attempts": None} | {
        shown: retries[shown] for said, shown in _RETRY_FIELDS.items() if said in meta.said
    }
    if meta.notes:
        view["info"] = [{"code": code, "message": message} for code, message in meta.notes]
    if meta.documentation:
        view["documentation"] = meta.documentation
    if meta.metadata:
        view["metadata"] = meta.metadata
    return view


_RETRY_FIELDS = {
    "delay_ms_initial": "initial_interval", "factor": "exponentiation_factor", "attempts_max": "max_attempts",
    "delay_ms_max": "max_interval", "on_exhausted": "on_max_attempts",
}  # fmt: skip


def retry_view(policy: RetryPolicy) -> Json:
    """A retry policy with all its fields."""
    return {
        "initial_interval": format_duration(policy.delay_ms_initial),
        "exponentiation_factor": policy.factor,
        "max_attempts": policy.attempts_max,
        "max_interval": format_duration(policy.delay_ms_max),
        "on_max_attempts": policy.on_exhausted.capitalize(),
    }


def _run_options(meta: ServiceMeta) -> HandlerOptions:
    runs = (one.options for one in meta.handlers.values() if one.kind is HandlerKind.WORKFLOW)
    return next(runs, HandlerOptions())


def _described(rule: InputRule | OutputRule) -> str:
    """`none`, what the schema says it is, or the content type."""
    if rule.content_type is None:
        return "none"
    schema = rule.json_schema
    if isinstance(schema, dict):
        if isinstance(title := schema.get("title"), str):
            return f"JSON '{title}'"
        if isinstance(kind := schema.get("type"), str):
            return f"JSON {kind}"
    optional = isinstance(rule, OutputRule) and rule.set_content_type_if_empty
    return f"optional {rule.content_type}" if optional else rule.content_type
