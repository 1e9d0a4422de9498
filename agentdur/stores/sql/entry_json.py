"""Journal entries as the admin API shows them in JSON: whole, or without payloads for lists."""

from __future__ import annotations

from typing import Any

from agentdur.core import journal as j
from agentdur.core.target import HandlerKind
from agentdur.wire.codec import encode
from agentdur.wire.frames import HEADER_BYTES

Json = dict[str, Any]
PROTOCOL_DEFAULT = 6
_OF = {
    "CallId": "CallInvocationId", "GetState": "GetLazyState", "GetStateKeys": "GetLazyStateKeys",
    "Attach": "AttachInvocation", "Output": "GetInvocationOutput",
}  # fmt: skip


def body(entry: j.Entry, protocol: int | None) -> bytes:
    """The protocol's message, without its frame."""
    return encode(entry, protocol or PROTOCOL_DEFAULT)[HEADER_BYTES:]


def transient(failure: j.Failure, index: int | None, name: str | None, kind: str | None) -> Json:
    """A failed attempt."""
    out: Json = {"error_code": failure.code, "error_message": failure.message}
    if failure.stacktrace:
        out["error_stacktrace"] = failure.stacktrace
    if code := doc_code(failure):
        out["restate_doc_error_code"] = code
    if index is not None:
        out["related_command_index"] = index
    if name:
        out["related_command_name"] = name
    if kind:
        out["related_command_type"] = kind
    return out


def doc_code(failure: j.Failure) -> str | None:
    """The code of an error that has a page, if it names one."""
    facts = dict(failure.metadata)
    return facts.get("restate_code") or facts.get("agentdur_code") or None


def full(entry: j.Entry, id: str) -> Json:
    """With payloads, as lists of bytes."""
    if isinstance(entry, j.Completion):
        of = _OF.get(entry.of, entry.of)
        return {"Notification": {"Completion": {of: _completed(entry)}}}
    if isinstance(entry, j.Signal):
        result = _outcome(entry.outcome)
        return {"Notification": {"Signal": {"id": _signal(entry.signal), "result": result}}}
    return {"Command": {type(entry).__name__: _command(entry, id, lite=False)}}


def lite(entry: j.Entry, id: str) -> Json:
    """Without payloads."""
    if isinstance(entry, j.Completion):
        return {
            "Notification": {
                "ty": {"Completion": _OF.get(entry.of, entry.of)}, "id": {"CompletionId": entry.id},
                "result": _result_variant(entry.outcome),
            }
        }  # fmt: skip
    if isinstance(entry, j.Signal):
        variant = _result_variant(entry.outcome)
        return {"Notification": {"ty": "Signal", "id": _signal(entry.signal), "result": variant}}
    return {"Command": {type(entry).__name__: _command(entry, id, lite=True)}}


def _signal(signal: int | str) -> Json:
    return {"SignalName": signal} if isinstance(signal, str) else {"SignalIndex": signal}


def _result_variant(outcome: j.Outcome) -> str:
    return {j.Void: "Void", j.Success: "Success", j.Failure: "Failure", j.Keys: "StateKeys"}.get(
        type(outcome), "InvocationId"
    )


def _outcome(outcome: Any) -> Any:
    match outcome:
        case j.Success(value=value):
            return {"Success": list(value)}
        case j.Failure(code=code, message=message):
            more = {"metadata": dict(outcome.metadata)} if outcome.metadata else {}
            return {"Failure": {"code": code, "message": message, **more}}
        case j.Keys(names=names):
            return {"StateKeys": list(names)}
        case j.CalleeId(invocation_id=callee):
            return {"InvocationId": callee}
        case _:
            return "Void"


def _completed(entry: j.Completion) -> Json:
    if isinstance(entry.outcome, j.CalleeId):
        return {"completion_id": entry.id, "invocation_id": entry.outcome.invocation_id}
    if isinstance(entry.outcome, j.Keys):
        return {"completion_id": entry.id, "state_keys": list(entry.outcome.names)}
    if entry.of == "Sleep":
        return {"completion_id": entry.id}
    return {"completion_id": entry.id, "result": _outcome(entry.outcome)}


def _target(call: j.Call | j.OneWayCall) -> Json:
    """Its kind is not in the journal: what has a key is shown as an object's."""
    if call.key is None:
        return {"Service": {"name": call.service, "handler": call.handler, "scope": call.scope or None}}
    return {
        "VirtualObject": {
            "name": call.service, "key": call.key, "handler": call.handler,
            "handler_ty": HandlerKind.EXCLUSIVE.value, "scope": call.scope or None,
        }
    }  # fmt: skip


def _request(call: j.Call | j.OneWayCall) -> Json:
    return {
        "invocation_id": None, "invocation_target": _target(call), "span_context": {},
        "parameter": list(call.parameter),
        "headers": [{"name": name, "value": value} for name, value in call.headers],
        "idempotency_key": call.idempotency_key,
    }  # fmt: skip


def _command(entry: Any, id: str, *, lite: bool) -> Json:
    """The fields of a command."""
    out: Json = {}
    match entry:
        case j.Input():
            if not lite:
                headers = [{"name": name, "value": value} for name, value in entry.headers]
                out = {"headers": headers, "payload": list(entry.value)}
        case j.Output():
            out = {"result": _result_variant(entry.result) if lite else _outcome(entry.result)}
        case j.Call() | j.OneWayCall():
            out = _call(entry, lite=lite)
        case j.SendSignal():
            out = {
                "target_invocation_id": entry.target, "signal_id": _signal(entry.signal),
                "result": _result_variant(entry.outcome) if lite else _outcome(entry.outcome),
            }  # fmt: skip
        case j.CompleteAwakeable():
            result = _result_variant(entry.result) if lite else _outcome(entry.result)
            out = {"id": entry.awakeable, "result": result}
        case j.AttachInvocation() | j.GetInvocationOutput():
            out = {"target": _attached(entry.target), "completion_id": entry.completion}
        case j.GetEagerState():
            value = j.VOID if entry.value is None else j.Success(entry.value)
            out = {"key": entry.key, "result": _result_variant(value) if lite else _outcome(value)}
        case j.GetEagerStateKeys():
            out = {} if lite else {"state_keys": list(entry.keys)}
        case _:
            out = _plain(entry, lite=lite)
    if not lite or (entry.name and isinstance(entry, j.Sleep | j.Call | j.OneWayCall | j.Run)):
        out["name"] = entry.name
    return out


def _plain(entry: Any, *, lite: bool) -> Json:
    """Those whose fields are said as they are called."""
    out: Json = {}
    if hasattr(entry, "key"):
        out["key"] = entry.key
    if isinstance(entry, j.Sleep):
        out["wake_up_time"] = entry.wake_at
    if not lite and isinstance(entry, j.SetState):
        out["value"] = list(entry.value)
    if not lite and isinstance(entry, j.CompletePromise):
        out["value"] = _outcome(entry.result)
    if hasattr(entry, "completion"):
        out["completion_id"] = entry.completion
    return out


def _call(entry: j.Call | j.OneWayCall, *, lite: bool) -> Json:
    request = _request(entry)
    out: Json = {"invocation_id_completion_id": entry.id_completion}
    if lite:
        out |= {name: request[name] for name in ("invocation_id", "invocation_target")}
    else:
        out["request"] = request
    if isinstance(entry, j.Call):
        return out | {"result_completion_id": entry.completion}
    return out | {"invoke_time": entry.invoke_at}


def _attached(target: j.AttachTarget) -> Any:
    match target:
        case j.InvocationRef(invocation_id=id):
            return {"InvocationId": id}
        case j.WorkflowRef(name=name, key=key):
            return {"Workflow": {"name": name, "key": key}}
        case _:
            return {
                "IdempotentRequest": {
                    "service": target.service,
                    "handler": target.handler,
                    "key": target.key,
                    "idempotency_key": target.idempotency_key,
                }
            }
