"""OpenTelemetry's current context in a handler: clients that are instrumented go on with the trace.

Rules of this file:
1. While the action of a step runs, the current span is the step's, which is made when its result is
   committed; elsewhere in a handler it is the invocation's.
2. It is found when somebody asks for it, so that a step costs nothing here.
"""

from __future__ import annotations

from importlib import import_module

from opentelemetry import context as otel
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)

from agentdur.core.trace import HEADER, STATE_HEADER, is_sampled, parent_of, trace_of
from agentdur.sdk.branch import current_branch
from agentdur.sdk.traced import span_at


class Here(NonRecordingSpan):
    """The span of whatever runs in this task. There is one for all: it asks where it is."""

    def get_span_context(self) -> SpanContext:
        """The step's, or the invocation's."""
        branch = current_branch()
        attempt = None if branch is None else branch.attempt
        if branch is None or attempt is None or attempt.traced is None:
            return INVALID_SPAN_CONTEXT
        traceparent: str = attempt.traced.traceparent
        state = dict(attempt.recorded.input.headers).get(STATE_HEADER) if parent_of(traceparent) else None
        return SpanContext(
            int(trace_of(traceparent, attempt.id), 16), int(span_at(branch), 16), True,
            TraceFlags(is_sampled(traceparent)), TraceState.from_header([state]) if state else None,
        )  # fmt: skip


_HERE = Here(INVALID_SPAN_CONTEXT)
_ALONE = set_span_in_context(_HERE, otel.Context())


def carry() -> None:
    """For the handler's task, called in it: everything it starts inherits the context."""
    otel.attach(set_span_in_context(_HERE) if otel.get_current() else _ALONE)


def current() -> str:
    """The context of the span that is current where this is called; empty when there is none."""
    span = get_current_span().get_span_context()
    if not span.is_valid:
        return ""
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags & 1:02x}"


def carry_on(headers: dict[str, str]) -> None:
    """The same where another server drives the handler: the current span is that server's, of the attempt."""
    if HEADER in headers:
        propagate = import_module("opentelemetry.propagate")  # loads every propagator there is
        otel.attach(propagate.extract(headers))
