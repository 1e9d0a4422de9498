"""The services the ingress tests speak to: one of each kind, and one handler per input rule."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from agentdur.core.catalog import Catalog, HandlerMeta, InputRule, OutputRule, ServiceMeta
from agentdur.core.journal import Failure
from agentdur.core.ports import Request
from agentdur.core.target import HandlerKind, ServiceKind
from tests.http.memory_engine import MemoryEngine, Refused

JSON_INPUT = InputRule(content_type="application/json", json_schema={})
SCHEMA = {"type": "object"}

INPUT_RULES = {
    "void": InputRule(void=True),
    "absent": InputRule(any=True),
    "json_optional": InputRule(content_type="application/json", json_schema=SCHEMA),
    "json_required": InputRule(content_type="application/json", json_schema=SCHEMA, required=True),
    "typed_optional": InputRule(content_type="application/json"),
    "typed_required": InputRule(content_type="application/json", required=True),
    "any_optional": InputRule(content_type="*/*"),
    "any_required": InputRule(content_type="*/*", required=True),
    "any_schema": InputRule(content_type="*/*", required=True, json_schema=SCHEMA),
    "text": InputRule(content_type="text/*"),
}

OUTPUT_RULES = {
    "plain": OutputRule(),
    "text_out": OutputRule(content_type="text/plain"),
    "typed_if_empty": OutputRule(content_type="text/plain", set_content_type_if_empty=True),
    "untyped": OutputRule(content_type=None),
}


def echo(request: Request) -> bytes:
    return request.value


def fail(request: Request) -> bytes:
    """`{"code":…, "message":…, "metadata":…, "stacktrace":…}`, all but the code optional."""
    asked = json.loads(request.value)
    raise Refused(
        Failure(
            asked["code"],
            asked.get("message", "m"),
            tuple(asked.get("metadata", {}).items()),
            asked.get("stacktrace", ""),
        )
    )


async def slow(request: Request) -> bytes:
    await asyncio.sleep(json.loads(request.value) / 1000)
    return b'"slept"'


def seen(request: Request) -> bytes:
    """What the handler was given."""
    return json.dumps({"key": request.target.key, "headers": request.headers}).encode()


def _handler(name: str, kind: HandlerKind, **more: Any) -> HandlerMeta:
    return HandlerMeta(name=name, kind=kind, **({"input": InputRule(any=True)} | more))


def _service(name: str, kind: ServiceKind, *handlers: HandlerMeta, public: bool = True) -> ServiceMeta:
    return ServiceMeta(name=name, kind=kind, handlers={h.name: h for h in handlers}, public=public)


PLAIN, EXCLUSIVE, SHARED, RUN = (
    HandlerKind.PLAIN,
    HandlerKind.EXCLUSIVE,
    HandlerKind.SHARED,
    HandlerKind.WORKFLOW,
)

CATALOG = Catalog(
    {
        meta.name: meta
        for meta in (
            _service(
                "Echo",
                ServiceKind.SERVICE,
                _handler("echo", PLAIN, input=JSON_INPUT),
                _handler("fail", PLAIN),
                _handler("slow", PLAIN),
                _handler("seen", PLAIN),
                _handler("hidden", PLAIN, public=False),
            ),
            _service(
                "Counter", ServiceKind.VIRTUAL_OBJECT, _handler("seen", EXCLUSIVE), _handler("slow", SHARED)
            ),
            _service("Signup", ServiceKind.WORKFLOW, _handler("run", RUN), _handler("seen", SHARED)),
            _service("Hidden", ServiceKind.SERVICE, _handler("seen", PLAIN), public=False),
            _service(
                "Rules", ServiceKind.SERVICE, *(_handler(n, PLAIN, input=r) for n, r in INPUT_RULES.items())
            ),
            _service(
                "Out", ServiceKind.SERVICE, *(_handler(n, PLAIN, output=r) for n, r in OUTPUT_RULES.items())
            ),
        )
    }
)

CODE = {"echo": echo, "fail": fail, "slow": slow, "seen": seen, "run": slow, "hidden": echo}


def memory_world() -> MemoryEngine:
    """A fresh engine that serves CATALOG."""
    handlers = {
        (service.name, name): CODE.get(name, echo)
        for service in CATALOG.services.values()
        for name in service.handlers
    }
    return MemoryEngine(CATALOG, handlers)
