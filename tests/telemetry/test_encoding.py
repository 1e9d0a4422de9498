"""The bytes are OTLP: whatever a span holds, the official messages read it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from agentdur.core.ids import InvocationId
from agentdur.core.trace import ROOT, inbound, span_of, span_of_entry, trace_of
from agentdur.telemetry.otlp import Envelope, encoded
from agentdur.telemetry.plain import Plain, head_of
from agentdur.telemetry.span import INTERNAL, SERVER, Event, Link, Span
from tests.support.collector import attributes, plain

INV = InvocationId("inv_194JFkxxG2OR02iM0JLxMwsOFMJm8AJSKJ")
INBOUND = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

ids = st.integers(1, 2**128 - 1).map(lambda n: f"{n:032x}")
span_ids = st.integers(1, 2**64 - 1).map(lambda n: f"{n:016x}")
times = st.integers(0, 2**42)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
values = st.one_of(
    texts, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False),
    st.lists(texts, max_size=3).map(tuple),
)  # fmt: skip
pairs: Any = st.dictionaries(texts, values, max_size=5).map(lambda found: tuple(found.items()))
spans = st.builds(
    Span, trace_id=ids, span_id=span_ids, parent_id=st.one_of(st.just(""), span_ids), name=texts,
    kind=st.integers(1, 5), began=times, ended=times, attributes=pairs, error=st.none() | texts,
    events=st.lists(st.builds(Event, times, texts, pairs), max_size=2).map(tuple),
    links=st.lists(st.builds(Link, ids, span_ids, pairs), max_size=2).map(tuple), trace_state=texts,
)  # fmt: skip


def read(*fields: bytes) -> ExportTraceServiceRequest:
    data = Envelope((("service.name", "x"),), "1").request(fields)
    return ExportTraceServiceRequest.FromString(data)


def dictionary(found: Any) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found}


@given(spans)
def test_every_span_reads_back(span: Span):
    (resource,) = read(encoded(span)).resource_spans
    assert plain(resource.resource.attributes) == {"service.name": "x"}
    (scope,) = resource.scope_spans
    assert (scope.scope.name, scope.scope.version) == ("agentdur", "1")
    (seen,) = scope.spans
    assert (seen.trace_id.hex(), seen.span_id.hex(), seen.parent_span_id.hex()) == (
        span.trace_id, span.span_id, span.parent_id,
    )  # fmt: skip
    assert (seen.name, seen.kind, seen.trace_state) == (span.name, span.kind, span.trace_state)
    assert seen.start_time_unix_nano == span.began * 1_000_000
    assert seen.end_time_unix_nano == span.ended * 1_000_000
    assert attributes(seen) == dictionary(span.attributes)
    assert (seen.status.code, seen.status.message) == (
        (0, "") if span.error is None else (2, span.error)
    )  # fmt: skip
    for event, one in zip(seen.events, span.events, strict=True):
        assert (event.time_unix_nano, event.name, attributes(event)) == (
            one.at * 1_000_000, one.name, dictionary(one.attributes),
        )  # fmt: skip
    for link, other in zip(seen.links, span.links, strict=True):
        assert (link.trace_id.hex(), link.span_id.hex()) == (other.trace_id, other.span_id)
        assert attributes(link) == dictionary(other.attributes)


@given(name=texts, began=times, took=st.integers(0, 10**6), traceparent=st.sampled_from([ROOT, INBOUND]))
def test_what_is_plain_is_written_as_everything_else(name: str, began: int, took: int, traceparent: str):
    parts, head = Plain(), head_of(traceparent, INV)
    common = (("agentdur.invocation.id", INV),)
    trace = trace_of(traceparent, INV)
    step = Span(
        trace_id=trace, span_id=span_of_entry(INV, 3), parent_id=span_of(INV), name=name or "run",
        kind=INTERNAL,
        began=began, ended=began + took, attributes=(*common, ("agentdur.step", name)),
    )  # fmt: skip
    whole = Span(
        trace_id=trace, span_id=span_of(INV), parent_id="" if traceparent == ROOT else INBOUND[36:52],
        name=name,
        kind=SERVER, began=began, ended=began + took, attributes=(*common, ("a", 1)),
    )  # fmt: skip
    for _ in range(2):  # also from what is remembered
        written = parts.step(head, f"{INV}/3", name, began, began + took)
        assert read(written) == read(encoded(step))
        written = parts.end(head, (name,), lambda: (name, SERVER, (("a", 1),)), began, began + took)
        assert read(written) == read(encoded(whole))


def test_only_what_is_a_context_is_taken_from_outside():
    assert inbound(INBOUND) == INBOUND
    assert inbound(f" {INBOUND[:-2]}03 ") == INBOUND, "other flags are nobody's here"
    assert inbound(INBOUND[:-2] + "00")[-2:] == "00"
    assert inbound(f"cc{INBOUND[2:]}-what-comes-later") == INBOUND
    for wrong in (
        "", "00", INBOUND[:-1], f"{INBOUND}-more", INBOUND.upper(), f"ff{INBOUND[2:]}",
        f"00-{'0' * 32}-00f067aa0ba902b7-01", f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
    ):  # fmt: skip
        assert inbound(wrong) == "", wrong
