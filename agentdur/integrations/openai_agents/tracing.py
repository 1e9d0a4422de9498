"""The SDK's spans, told once: ids come from the invocation, and what is replayed is silent.

Rules of this file:
1. One run is one trace, on however many attempts. A span's id is made of the branch it begins in and its
   number there; spans inside of a step have numbers of their own, as a replay does not come there.
2. A span that begins while the journal is replayed is held back; it is told when it ends after something new
   has begun, else never: it was told before.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any
from weakref import WeakKeyDictionary

from agents.tracing import Span, Trace, TracingProcessor, set_trace_provider
from agents.tracing.provider import DefaultTraceProvider

from agentdur.sdk.branch import Branch, current_branch


def trace_id_of(key: str) -> str:
    """The id of a run's trace."""
    return f"trace_{sha256(key.encode()).hexdigest()[:32]}"


def trace_to(*processors: TracingProcessor) -> None:
    """Send spans to these processors and to nobody else, durable runs' only once. The exporter that the SDK
    brings along is not among them unless it is given."""
    provider = _Provider()
    provider.set_disabled(not processors)
    provider.set_processors([OnceOnly(processor) for processor in processors])
    set_trace_provider(provider)


class _Provider(DefaultTraceProvider):
    """Gives out ids that are the same on every attempt."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: WeakKeyDictionary[Branch, dict[bool, int]] = WeakKeyDictionary()

    def gen_span_id(self) -> str:
        branch = current_branch()
        if branch is None:
            return super().gen_span_id()
        counts = self._counts.setdefault(branch, {})
        number = counts.get(branch.in_step, 0)
        counts[branch.in_step] = number + 1
        kind = "step" if branch.in_step else "handler"
        key = f"{branch.attempt.id}/{branch.name}/{kind}/{number}"
        return f"span_{sha256(key.encode()).hexdigest()[:24]}"


class OnceOnly(TracingProcessor):
    """Passes on to another processor what is not a replay."""

    def __init__(self, inner: TracingProcessor) -> None:
        self._inner = inner
        self._held: set[str] = set()

    def on_trace_start(self, trace: Trace) -> None:
        """A run begins."""
        self._begin(trace.trace_id, trace, self._inner.on_trace_start)

    def on_trace_end(self, trace: Trace) -> None:
        """A run ends."""
        self._end(trace.trace_id, trace, (self._inner.on_trace_start, self._inner.on_trace_end))

    def on_span_start(self, span: Span[Any]) -> None:
        """A span begins."""
        self._begin(span.span_id, span, self._inner.on_span_start)

    def on_span_end(self, span: Span[Any]) -> None:
        """A span ends."""
        self._end(span.span_id, span, (self._inner.on_span_start, self._inner.on_span_end))

    def _begin(self, key: str, thing: Any, tell: Any) -> None:
        if replaying():
            self._held.add(key)
        else:
            self._held.discard(key)
            tell(thing)

    def _end(self, key: str, thing: Any, tell: Sequence[Any]) -> None:
        held = key in self._held
        self._held.discard(key)
        if held and replaying():
            return
        if held:
            tell[0](thing)
        tell[1](thing)

    def shutdown(self) -> None:
        """As the inner one."""
        self._inner.shutdown()

    def force_flush(self) -> None:
        """As the inner one."""
        self._inner.force_flush()


def replaying() -> bool:
    """True while what the handler does is in the journal already."""
    branch = current_branch()
    if branch is None or branch.in_step or branch.attempt is None:
        return False
    attempt = branch.attempt
    if attempt.multi:
        return attempt.turns is not None and not attempt.turns.over
    return bool(attempt.root.recorded)
