"""OpenTelemetry's current context in a handler: clients that are instrumented go on with the trace.

Rules of this file:
1. While the action of a step runs, the current span is the step's, which is made when its result is
   committed; elsewhere in a handler it is the invocation's.
2. It is found when somebody asks for it, so that a step costs nothing here.
"""

from __future__ import annotations

from opentelemetry import context as otel
from opentelemetry.propagate import extract
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)

from agentdur.core.ids import InvocationId
from agentdur.core.journal import Headers
from agentdur.core.trace import (
    HEADER,
    STATE_HEADER,
    is_sampled,
    parent_of,
    span_of,
    span_of_entry,
    trace_of,
)
from agentdur.sdk.branch import current_branch


class Here(NonRecordingSpan):
    """The span of whatever runs in this task."""

    def __init__(self, traceparent: str, invocation: InvocationId, state: str) -> None:
        super().__init__(INVALID_SPAN_CONTEXT)
        self._traceparent, self._invocation, self._tracestate = traceparent, invocation, state

    def get_span_context(self) -> SpanContext:
        """The step's, or the invocation's."""
        branch = current_branch()
        acting = None if branch is None or not branch.in_step else branch.acting
        completion = getattr(acting, "completion", 0)
        invocation = self._invocation
        span = span_of_entry(invocation, completion) if completion else span_of(invocation)
        state = self._tracestate
        return SpanContext(
            int(trace_of(self._traceparent, invocation), 16), int(span, 16), True,
            TraceFlags(is_sampled(self._traceparent)), TraceState.from_header([state]) if state else None,
        )  # fmt: skip


def carry(traceparent: str, invocation: InvocationId, headers: Headers) -> None:
    """For the handler's task, called in it: everything it starts inherits the context."""
    state = dict(headers).get(STATE_HEADER, "") if parent_of(traceparent) else ""
    otel.attach(set_span_in_context(Here(traceparent, invocation, state)))


def current() -> str:
    """The context of the span that is current where this is called; empty when there is none."""
    span = get_current_span().get_span_context()
    if not span.is_valid:
        return ""
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags & 1:02x}"


def carry_on(headers: dict[str, str]) -> None:
    """The same where another server drives the handler: the current span is that server's, of the attempt."""
    if HEADER in headers:
        otel.attach(extract(headers))
