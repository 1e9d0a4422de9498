"""Bodies that describe an invocation: `POST /restate/attach`, `/restate/output`, `/restate/lookup`."""

from __future__ import annotations

from typing import TypeAlias

import msgspec
from msgspec import Struct

from agentdur.core.ids import InvocationId
from agentdur.core.ports import Engine
from agentdur.core.target import HandlerKind, ServiceKind, Target
from agentdur.ingress.errors import IngressError
from agentdur.ingress.paths import read_invocation_id
from agentdur.ingress.query import label_problem


class WorkflowTarget(Struct, frozen=True, rename="camel", tag_field="target", tag="workflow"):
    """A workflow's run."""

    workflow_name: str
    workflow_key: str
    scope: str | None = None


class IdempotentTarget(Struct, frozen=True, rename="camel", tag_field="target", tag="idempotentInvocation"):
    """An invocation with an idempotency key."""

    service: str
    handler: str
    idempotency_key: str
    key: str | None = None
    scope: str | None = None


class InvocationTarget(Struct, frozen=True, rename="camel", tag_field="target", tag="invocation"):
    """An invocation by id."""

    invocation_id: str


AnyTarget: TypeAlias = WorkflowTarget | IdempotentTarget | InvocationTarget

_decode = msgspec.json.Decoder(AnyTarget).decode


def read_target(body: bytes, engine: Engine) -> InvocationId:
    """The id the body means, whether or not there is such an invocation; 400 when the body is malformed."""
    try:
        described: AnyTarget = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IngressError(400, f"cannot read body: {error}") from error
    match described:
        case InvocationTarget(invocation_id):
            return read_invocation_id(invocation_id)
        case WorkflowTarget(name, key, scope):
            return workflow_id(engine, name, key, _scope(scope))
        case IdempotentTarget(service, handler, idempotency_key, key, scope):
            return idempotent_id(engine, service, handler, key, idempotency_key, scope=_scope(scope))


def workflow_id(engine: Engine, name: str, key: str, scope: str = "") -> InvocationId:
    """The id of the run of this workflow key."""
    run = Target(name, "run", key, ServiceKind.WORKFLOW, HandlerKind.WORKFLOW, scope)
    return engine.lookup(run, None)


def idempotent_id(
    engine: Engine, service: str, handler: str, key: str | None, idempotency_key: str, *, scope: str = ""
) -> InvocationId:
    """The id of the invocation with this idempotency key; without an object key, of a plain service."""
    if key is None:
        target = Target(service, handler, None, ServiceKind.SERVICE, HandlerKind.PLAIN, scope)
    else:
        target = Target(service, handler, key, ServiceKind.VIRTUAL_OBJECT, HandlerKind.SHARED, scope)
    return engine.lookup(target, idempotency_key)


def _scope(scope: str | None) -> str:
    if scope is None:
        return ""
    if problem := label_problem(scope):
        raise IngressError(400, f"bad scope value: {problem}")
    return scope
