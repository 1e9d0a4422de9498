"""OpenAPI 3.1 documents made from what the handlers declare. Pure.

Rules of this file:
1. One document per service, or one for all; a component's name begins with its service in the latter.
2. `$defs` of a handler's schema become components of the document, so that references hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from agentdur.core.catalog import HandlerMeta, InputRule, ServiceMeta
from agentdur.core.target import HandlerKind, ServiceKind

Json: TypeAlias = dict[str, Any]

_TAGS = (
    ("Request Response", "Call a handler and wait for its answer"),
    ("Send", "Start a handler without waiting"),
    ("Attach", "Wait for the result of an invocation"),
    ("Get Output", "The result of an invocation, if it is there"),
)
_STRING = {"type": "string"}


def openapi(service: ServiceMeta, ingress_url: str = "") -> Json:
    """The document of one service; its version is the service's revision."""
    info: Json = {"title": service.name, "version": str(service.revision)}
    if service.documentation:
        info["description"] = service.documentation
    if service.metadata:
        info["x-restate-extensions"] = dict(service.metadata)
    return _document(info, [service], ingress_url, prefixed=False)


def openapi_of_all(services: Iterable[ServiceMeta], title: str, ingress_url: str = "") -> Json:
    """One document for all services."""
    return _document({"title": title, "version": "1"}, services, ingress_url, prefixed=True)


def _document(info: Json, services: Iterable[ServiceMeta], ingress_url: str, *, prefixed: bool) -> Json:
    paths: Json = {}
    schemas: Json = {"RestateError": _ERROR_SCHEMA}
    for service in services:
        for handler in service.handlers.values():
            paths |= _Operations(service, handler, prefixed, schemas).paths()
    document: Json = {
        "openapi": "3.1.0",
        "info": info,
        "tags": [{"name": name, "description": text} for name, text in _TAGS],
        "paths": dict(sorted(paths.items())),
        "components": {"parameters": _PARAMETERS, "responses": _RESPONSES, "schemas": schemas},
    }
    if ingress_url:
        document["servers"] = [{"url": ingress_url, "description": "Ingress"}]
    return document


class _Operations:
    """The operations of one handler."""

    def __init__(self, service: ServiceMeta, handler: HandlerMeta, prefixed: bool, schemas: Json) -> None:
        self._service, self._handler, self._schemas = service, handler, schemas
        self._name = f"{service.name}.{handler.name}" if prefixed else handler.name
        self._public = service.public and handler.public

    def paths(self) -> Json:
        """All paths; a private handler has those of results only."""
        keyed = "/{key}" if self._service.keyed else ""
        target = f"{self._service.name}{keyed}/{self._handler.name}"
        paths: Json = {}
        if self._public:
            paths[f"/restate/call/{target}"] = {"post": self._call()}
            paths[f"/restate/send/{target}"] = {"post": self._send()}
        if self._service.kind is not ServiceKind.WORKFLOW:
            results = f"/restate/invocation/{target}/{{idempotencyKey}}"
        elif self._handler.kind is HandlerKind.WORKFLOW:
            results = f"/restate/workflow/{self._service.name}/{{key}}"
        else:
            return paths
        paths[f"{results}/attach"] = {"get": self._by_key("Attach", "Attach", not_ready=False)}
        paths[f"{results}/output"] = {"get": self._by_key("Get Output", "Output", not_ready=True)}
        return paths

    def _operation(self, tag: str, suffix: str, parameters: list[str], responses: Json) -> Json:
        where = ["key"] if self._service.keyed else []
        operation: Json = {
            "operationId": f"{self._name}{suffix}",
            "summary": self._handler.name,
            "tags": [tag],
            "parameters": [_ref("parameters", name) for name in where + parameters],
            "responses": responses | {"default": _ref("responses", "GenericError")},
        }
        if self._handler.documentation:
            operation["description"] = self._handler.documentation
        if self._handler.metadata:
            operation["x-restate-extensions"] = dict(self._handler.metadata)
        return operation

    def _idempotency(self) -> list[str]:
        return [] if self._handler.kind is HandlerKind.WORKFLOW else ["idempotencyKeyHeader"]

    def _call(self) -> Json:
        operation = self._operation("Request Response", "", self._idempotency(), {"200": self._answer()})
        return operation | self._body()

    def _send(self) -> Json:
        sent = _ref("responses", "Send")
        parameters = [*self._idempotency(), "delay"]
        return self._operation("Send", "Send", parameters, {"202": sent}) | self._body()

    def _by_key(self, tag: str, suffix: str, *, not_ready: bool) -> Json:
        workflow = self._service.kind is ServiceKind.WORKFLOW
        responses = {"200": self._answer(), "404": _ref("responses", "InvocationNotFoundError")}
        if not_ready:
            responses["470"] = _ref("responses", "InvocationNotReadyError")
        return self._operation(tag, suffix, [] if workflow else ["idempotencyKeyPath"], responses)

    def _body(self) -> Json:
        rule = self._handler.input
        if rule.void:
            return {}
        content = {_accepted(rule): self._schema("Request", rule.json_schema)}
        return {"requestBody": {"required": rule.required, "content": content}}

    def _answer(self) -> Json:
        rule = self._handler.output
        answer: Json = {"description": "The handler's answer"}
        if rule.content_type is not None:
            answer["content"] = {rule.content_type: self._schema("Response", rule.json_schema)}
        return answer

    def _schema(self, suffix: str, schema: Any) -> Json:
        """The schema as a component, and the reference to it."""
        if schema is None:
            return {}
        name = f"{self._name}{suffix}"
        if name not in self._schemas:
            self._schemas[name] = self._hoisted(name, schema)
        return {"schema": _ref("schemas", name)}

    def _hoisted(self, name: str, schema: Any) -> Any:
        """The schema with its own definitions moved beside it."""
        if not isinstance(schema, dict):
            return schema
        for key, definition in schema.get("$defs", {}).items():
            self._schemas[f"{name}.{key}"] = _moved(definition, name)
        return _moved({key: value for key, value in schema.items() if key != "$defs"}, name)


def _moved(schema: Any, owner: str) -> Any:
    """References into `$defs` lead to the components now."""
    if isinstance(schema, list):
        return [_moved(item, owner) for item in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {key: _moved(value, owner) for key, value in schema.items()}
    reference = moved.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        moved["$ref"] = f"#/components/schemas/{owner}.{reference.removeprefix('#/$defs/')}"
    return moved


def _accepted(rule: InputRule) -> str:
    return "*/*" if rule.any or rule.content_type is None else rule.content_type


def _ref(kind: str, name: str) -> Json:
    return {"$ref": f"#/components/{kind}/{name}"}


def _parameter(name: str, where: str, description: str, **more: Any) -> Json:
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "description": description,
        "schema": _STRING,
    } | more


def _error_response(description: str, example: Json) -> Json:
    content = {"application/json": {"schema": _ref("schemas", "RestateError"), "example": example}}
    return {"description": description, "content": content}


_PARAMETERS: Json = {
    "key": _parameter("key", "path", "The object's or workflow's key"),
    "delay": _parameter(
        "delay", "query", "When to start: a duration from now, ISO 8601 or friendly", example="10s"
    ),
    "idempotencyKeyHeader": _parameter(
        "idempotency-key", "header", "Submissions with the same key are one invocation and share its result"
    ),
    "idempotencyKeyPath": _parameter("idempotencyKey", "path", "The idempotency key of the invocation"),
}
_ERROR_SCHEMA: Json = {
    "title": "RestateError",
    "type": "object",
    "additionalProperties": False,
    "required": ["message", "source"],
    "properties": {
        "code": {"type": "number", "title": "error code"},
        "message": {"type": "string", "title": "Error message"},
        "metadata": {"type": "object", "additionalProperties": _STRING, "title": "Additional metadata map"},
        "source": {
            "type": "string",
            "enum": ["ingress", "invocation"],
            "title": "Error source",
            "description": "ingress: the request was not served. invocation: the handler's terminal failure. "
            "The header x-restate-error-source says the same.",
        },
        "stacktrace": {"type": "string", "title": "Stacktrace of the error"},
    },
}
_RESPONSES: Json = {
    "GenericError": _error_response(
        "Error response", {"code": 500, "message": "Internal server error", "source": "invocation"}
    ),
    "InvocationNotFoundError": _error_response(
        "Invocation not found", {"code": 404, "message": "invocation not found", "source": "ingress"}
    ),
    "InvocationNotReadyError": _error_response(
        "Invocation still running, output is not ready yet",
        {"code": 470, "message": "the invocation exists but has not completed yet", "source": "ingress"},
    ),
    "Send": {
        "description": "Send response",
        "content": {
            "application/json": {
                "schema": {
                    "title": "RestateSendResponse",
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["invocationId", "status"],
                    "properties": {
                        "invocationId": _STRING,
                        "executionTime": {
                            "type": "string",
                            "format": "date-time",
                            "description": "When it will start; only with 'delay'",
                        },
                        "status": {"type": "string", "enum": ["Accepted", "PreviouslyAccepted"]},
                    },
                },
                "example": {"invocationId": "inv_1gdJBtdVEcM942bjcDmb1c1khoaJe11Hbz", "status": "Accepted"},
            }
        },
    },
}
