"""A collector of OpenTelemetry: takes OTLP over HTTP, and reads it with the official messages."""

from __future__ import annotations

import gzip
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

Tree = tuple[str, str, tuple[Any, ...]]
"""(name, span id, subtrees)."""


class Collector:
    """Serves until it is closed. `answer` decides the status of each request, 200 unless it is set."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.metrics: list[Metric] = []
        self.resources: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.answer: Callable[[int], int] = lambda number: 200
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = collector.take(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        self.headers.append(headers)
        status = self.answer(len(self.headers))
        if status != 200:
            return status
        assert headers["content-type"] == "application/x-protobuf"
        body = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
        self.bodies.append(body)
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(plain(resource.resource.attributes))
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        elif path == "/v1/metrics":
            for batch in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.resources.append(plain(batch.resource.attributes))
                self.metrics += [metric for scope in batch.scope_metrics for metric in scope.metrics]
        else:
            return 404
        return 200

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    # -- what was sent

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> Span:
        (span,) = self.named(name)
        return span

    def metric(self, name: str) -> Metric:
        """As it was sent last."""
        return next(metric for metric in reversed(self.metrics) if metric.name == name)

    def trees(self) -> list[Tree]:
        """The spans as trees, re-sent ones once; all of them must have the same parent each time."""
        return trees(self.spans)


def trees(spans: list[Span]) -> list[Tree]:
    known: dict[bytes, Span] = {}
    for span in spans:
        before = known.setdefault(span.span_id, span)
        assert (before.trace_id, before.parent_span_id, before.name) == (
            span.trace_id, span.parent_span_id, span.name,
        ), "two spans have the same id"  # fmt: skip
    below: dict[bytes, list[Span]] = {}
    for span in known.values():
        below.setdefault(span.parent_span_id if span.parent_span_id in known else b"", []).append(span)

    def tree(span: Span) -> Tree:
        children = sorted(map(tree, below.get(span.span_id, [])), key=lambda one: one[:2])
        return span.name, span.span_id.hex(), tuple(children)

    return sorted(map(tree, below.get(b"", [])), key=lambda one: one[:2])


def names(tree: Tree) -> Any:
    """A tree without ids: a name, or (name, subtrees)."""
    return (tree[0], [names(child) for child in tree[2]]) if tree[2] else tree[0]


def told_twice(spans: list[Span]) -> set[str]:
    counts = Counter(span.span_id for span in spans)
    return {span.name for span in spans if counts[span.span_id] > 1}


def attributes(span: Any) -> dict[str, Any]:
    return plain(span.attributes)


def plain(pairs: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        assert isinstance(pair, KeyValue)
        assert pair.key not in found, f"{pair.key} is there twice"
        found[pair.key] = _value(pair.value)
    return found


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None


def collecting() -> Iterator[Collector]:
    """For a fixture."""
    made = Collector()
    yield made
    made.close()
