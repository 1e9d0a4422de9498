"""The spans of what was committed.

Rules of this file:
1. One span for an invocation, from its acceptance to its end; below it one for each entry that takes time.
   The names and attributes are listed in docs/reference/telemetry.md.
2. A span is made when it has ended, from what the journal says: made again, it is the same.
3. Payloads are in no span unless `content` says `all`, and messages of errors unless it says more than
   `none`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias

import msgspec
from msgspec import Struct

from agentdur.core import journal as j
from agentdur.core.catalog import is_internal
from agentdur.core.machine.finish import CANCELED, KILLED
from agentdur.core.state import Head
from agentdur.core.trace import ROOT, parent_of, span_of, span_of_entry, trace_of
from agentdur.telemetry import genai
from agentdur.telemetry.follow import Asked, Done, Failed, Live
from agentdur.telemetry.plain import Plain, head_of
from agentdur.telemetry.span import (
    CLIENT,
    CONSUMER,
    INTERNAL,
    PRODUCER,
    SERVER,
    Attributes,
    Event,
    Link,
    Span,
    Value,
)

Content: TypeAlias = Literal["none", "errors", "all"]
Pairs: TypeAlias = list[tuple[str, Value]]

_CANCELS = (CANCELED.message, "cancelled")
"""What a cancellation says: before an invocation began, and to its handler."""


class _Verdict(Struct):
    approved: bool


_VERDICT = msgspec.json.Decoder(_Verdict)


class Sink(Protocol):
    """Where spans go."""

    @property
    def write(self) -> Callable[[bytes], None] | None:
        """Takes a span that is encoded already; None: it wants them all as they are."""

    def give(self, span: Span) -> None:
        """A span has ended."""

    def pass_on(self) -> None:
        """Nothing comes for a while: let what was given leave."""


class SpanMaker:
    """Makes spans and gives them to `sink`. `content_bytes`: how much of a payload, or of an error's
    message."""

    def __init__(self, sink: Sink, content: Content = "errors", content_bytes: int = 8192) -> None:
        self._give, self._content, self._bytes = sink.give, content, content_bytes
        self._all = content == "all"
        self._write = sink.write if not self._all else None
        self._parts = Plain()

    hears = ("plain", "done", "decided", "ended")

    def plain(self, live: Live, step: j.Run, began: int, completion: j.Completion, at: int) -> None:
        """A step that went well and noted nothing."""
        if not live.traced:
            return
        if self._write is None:
            self.done(live, Done(step, began, completion, at), False)
            return
        spec = live.spec
        ids = live.head
        if ids is None:
            ids = live.head = head_of(spec.traceparent, spec.id)
        self._write(self._parts.step(ids, f"{spec.id}/{completion.id}", step.name, began, at))

    def done(self, live: Live, done: Done, again: bool) -> None:
        """An entry was completed."""
        if not live.traced:
            return
        entry = done.entry
        outcome = done.completion.outcome
        spec = live.spec
        attributes: Pairs = [("agentdur.invocation.id", spec.id)]
        if entry.branch:
            attributes.append(("agentdur.branch", entry.branch))
        error = None
        if type(outcome) is j.Failure:
            error = self._error(outcome, attributes)
        if type(entry) is j.Run:
            name, kind = self._step(live, done, entry, attributes)
        elif isinstance(entry, j.Call | j.OneWayCall):
            if is_internal(entry.service):
                return
            name, kind = self._call(live, done, entry, attributes)
        else:
            name, kind = self._wait(entry, attributes), INTERNAL
        self._give(
            Span(
                trace_id=trace_of(spec.traceparent, spec.id), parent_id=span_of(spec.id), name=name,
                kind=kind,
                span_id=span_of_entry(spec.id, done.completion.id), began=done.began, ended=done.ended,
                attributes=tuple(attributes), error=error,
            )
        )  # fmt: skip

    def _step(self, live: Live, done: Done, entry: j.Run, attributes: Pairs) -> tuple[str, int]:
        attributes.append(("agentdur.step", entry.name))
        completion = done.completion
        name, kind = entry.name or "run", INTERNAL
        note = genai.noted(completion.meta)
        if note.model is not None:
            attributes += genai.of_model(note, live.agent)
            name, kind = f"chat {note.requested}", CLIENT
        elif note.tool is not None:
            attributes += genai.of_tool(note, live.agent)
            name = f"execute_tool {genai.text(note.tool)}"
        if self._all:
            self._contents(live, done, note, attributes)
        return name, kind

    def _contents(self, live: Live, done: Done, note: genai.Note, attributes: Pairs) -> None:
        outcome = done.completion.outcome
        value = outcome.value if type(outcome) is j.Success else b""
        found: Pairs = [("agentdur.step.result", _text(value))]
        if note.model is not None:
            said, arguments = genai.answered(value)
            if arguments:
                live.arguments = {**(live.arguments or {}), **arguments}
            found += [("gen_ai.input.messages", genai.told(done.messages)), ("gen_ai.output.messages", said)]
        elif note.tool is not None:
            known = (live.arguments or {}).get(genai.text(note.tool_call_id), "")
            found = [("gen_ai.tool.call.arguments", known), ("gen_ai.tool.call.result", _text(value))]
        attributes += [(key, self._cut(str(what))) for key, what in found if what]

    def _call(
        self, live: Live, done: Done, entry: j.Call | j.OneWayCall, attributes: Pairs
    ) -> tuple[str, int]:
        target = f"{entry.service}/{entry.handler}"
        attributes += [("agentdur.callee.service", entry.service), ("agentdur.callee.handler", entry.handler)]
        if entry.key is not None:
            attributes.append(("agentdur.callee.key", entry.key))
        callee = (live.callees or {}).get(done.completion.id)
        if callee is not None:
            attributes.append(("agentdur.callee.id", callee))
        if isinstance(entry, j.Call):
            if self._all:
                attributes.append(("agentdur.input", self._cut(_text(entry.parameter))))
            return f"call {target}", CLIENT
        return f"send {target}", PRODUCER

    def _wait(self, entry: j.AnyCommand, attributes: Pairs) -> str:
        key = getattr(entry, "key", "")
        if key:
            attributes.append(
                ("agentdur.key" if isinstance(entry, j.GetLazyState) else "agentdur.promise", key)
            )
        if entry.name:
            attributes.append(("agentdur.step", entry.name))
        return _WAITS.get(type(entry), type(entry).__name__)

    def decided(self, live: Live, asked: Asked, signal: j.Signal, at: int, again: bool) -> None:
        """A question was decided: how long people took."""
        if not live.traced:
            return
        spec = live.spec
        attributes: Pairs = [("agentdur.invocation.id", spec.id)]
        if asked.tool:
            attributes.append(("gen_ai.tool.name", asked.tool))
        approved = _approved(signal)
        if approved is not None:
            attributes.append(("agentdur.approval.approved", approved))
        self._give(
            Span(
                trace_id=trace_of(spec.traceparent, spec.id), parent_id=span_of(spec.id), name="approval",
                kind=INTERNAL,
                span_id=span_of_entry(spec.id, -asked.completion), began=asked.at, ended=at,
                attributes=tuple(attributes),
            )
        )  # fmt: skip

    def ended(self, live: Live, head: Head | None, result: j.Result, at: int) -> None:
        """The whole of it."""
        if not live.traced:
            return
        spec = live.spec
        target = spec.target
        if (
            self._write is not None
            and head is not None
            and type(result) is j.Success
            and live.failures is None
            and not (target.key or live.trace_state or spec.restarted_from or head.deployment)
        ):
            ids = live.head or head_of(spec.traceparent, spec.id)
            key = (target.service, target.handler, spec.invoked_by, live.one_way, head.attempt)
            self._write(self._parts.end(ids, key, lambda: _about(live, head, result), spec.created_at, at))
            return
        name, kind, about = _about(live, head, result)
        attributes: Pairs = [("agentdur.invocation.id", spec.id), *about]
        error = self._error(result, attributes) if type(result) is j.Failure else None
        if self._all:
            if live.input:
                attributes.append(("agentdur.input", self._cut(_text(live.input))))
            if type(result) is j.Success:
                attributes.append(("agentdur.output", self._cut(_text(result.value))))
        self._give(
            Span(
                trace_id=trace_of(spec.traceparent, spec.id), span_id=span_of(spec.id),
                parent_id=parent_of(spec.traceparent), name=name, kind=kind, began=spec.created_at,
                ended=at, attributes=tuple(attributes), events=tuple(map(self._event, live.failures or ())),
                links=_links(live), error=error, trace_state=live.trace_state,
            )
        )  # fmt: skip

    # -- what is said of errors

    def _event(self, failed: Failed) -> Event:
        attributes: Pairs = [("agentdur.attempt", failed.attempt)]
        self._error(failed.error, attributes)
        if self._content != "none":
            attributes.append(("exception.message", self._cut(failed.error.message)))
            if failed.error.stacktrace:
                attributes.append(("exception.stacktrace", self._cut(failed.error.stacktrace)))
        if failed.retry_at is not None:
            attributes.append(("agentdur.retry_in_ms", max(0, failed.retry_at - failed.at)))
        return Event(failed.at, "exception", tuple(attributes))

    def _error(self, failure: j.Failure, attributes: Pairs) -> str:
        metadata = dict(failure.metadata)
        code = metadata.get("agentdur_code") or metadata.get("restate_code") or str(failure.code)
        attributes.append(("error.type", code))
        return "" if self._content == "none" else self._cut(failure.message)

    def _cut(self, text: str) -> str:
        return text if len(text) <= self._bytes else text[: self._bytes] + "…"


_WAITS: dict[Any, str] = {
    j.Sleep: "sleep", j.GetPromise: "promise", j.PeekPromise: "peek promise",
    j.CompletePromise: "complete promise",
    j.AttachInvocation: "attach", j.GetInvocationOutput: "output", j.GetLazyState: "get state",
    j.GetLazyStateKeys: "get state keys",
}  # fmt: skip


def outcome_of(result: j.Result) -> str:
    """How an invocation ended, in a word."""
    if type(result) is j.Success:
        return "success"
    assert isinstance(result, j.Failure)
    if result == KILLED:
        return "killed"
    return "cancelled" if result.code == CANCELED.code and result.message in _CANCELS else "failure"


def _about(live: Live, head: Head | None, result: j.Result) -> tuple[str, int, Attributes]:
    """Name, kind and attributes of an invocation's span, without its id and what went wrong."""
    spec = live.spec
    target = spec.target
    attributes: Pairs = [
        ("agentdur.service", target.service), ("agentdur.handler", target.handler),
        ("agentdur.service.kind", target.service_kind.value), ("agentdur.invoked_by", spec.invoked_by),
        ("agentdur.outcome", outcome_of(result)),
    ]  # fmt: skip
    if target.key is not None:
        attributes.append(("agentdur.key", target.key))
    if head is not None:
        attributes.append(("agentdur.attempts", head.attempt))
        if head.deployment is not None:
            attributes.append(("agentdur.deployment", head.deployment))
    return f"{target.service}/{target.handler}", CONSUMER if live.one_way else SERVER, tuple(attributes)


def _links(live: Live) -> tuple[Link, ...]:
    origin = live.spec.restarted_from
    if origin is None:
        return ()
    return (Link(trace_of(ROOT, origin), span_of(origin), (("agentdur.link", "restarted_from"),)),)


def _approved(signal: j.Signal) -> bool | None:
    if type(signal.outcome) is not j.Success:
        return None
    try:
        return _VERDICT.decode(signal.outcome.value).approved
    except msgspec.MsgspecError:
        return None


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
