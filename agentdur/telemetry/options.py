"""What telemetry is told: our settings, then the standard variables of OpenTelemetry.

https://opentelemetry.io/docs/specs/otel/protocol/exporter/ says what each variable means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote

from msgspec import Struct

from agentdur.core.errors import BadTelemetry
from agentdur.telemetry.span import Attributes
from agentdur.telemetry.spans import Content

TRACES: Final = "traces"
METRICS: Final = "metrics"
SIGNALS: Final = (TRACES, METRICS)
PROTOCOL: Final = "http/protobuf"
TIMEOUT_MS: Final = 10_000
METRIC_INTERVAL_MS: Final = 60_000
_PREFIX = "OTEL_EXPORTER_OTLP_"


class Destination(Struct, frozen=True, kw_only=True):
    """Where one signal goes."""

    url: str
    headers: tuple[tuple[str, str], ...] = ()
    timeout_ms: int = TIMEOUT_MS
    gzip: bool = False
    certificate: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None


class Parcel(NamedTuple):
    """One request, and how many spans or data points it holds."""

    destination: Destination
    body: bytes
    size: int


class Options(Struct, frozen=True, kw_only=True):
    """What is sent, and where. `traces`, `metrics`: None when that signal is not sent. `expose`: metrics are
    counted for those who come and ask. `queue`: transitions that may wait to be told on; `share`: of the
    loop's time, what telemetry may take."""

    traces: Destination | None = None
    metrics: Destination | None = None
    expose: bool = False
    content: Content = "errors"
    content_bytes: int = 8192
    sample_ratio: float = 1.0
    share: float = 0.1
    metric_interval_ms: int = METRIC_INTERVAL_MS
    queue: int = 100_000
    resource: Attributes = ()

    @property
    def wanted(self) -> bool:
        """Whether there is anything to do."""
        return self.expose or self.traces is not None or self.metrics is not None


def destinations(
    environ: Mapping[str, str], endpoint: str | None = None, headers: str | None = None
) -> dict[str, Destination]:
    """By signal; one that is not there is not sent. `endpoint`, `headers`: settings, which come before the
    variables. BadTelemetry when something does not fit."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" and endpoint is None:
        return {}
    found = {}
    for signal in SIGNALS:
        exporter = environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip() or "otlp"
        if exporter not in ("otlp", "none"):
            raise BadTelemetry(f"OTEL_{signal.upper()}_EXPORTER={exporter}: takes otlp or none")
        url = _url(environ, signal, endpoint)
        if exporter == "otlp" and url:
            found[signal] = _destination(environ, signal, url, headers)
    return found


def resource_of(environ: Mapping[str, str], version: str, name: str | None = None) -> Attributes:
    """Who sends: `service.name` and what OTEL_RESOURCE_ATTRIBUTES says."""
    known: dict[str, str] = dict(
        _pairs("OTEL_RESOURCE_ATTRIBUTES", environ.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    )
    known["service.name"] = (
        name or environ.get("OTEL_SERVICE_NAME", "").strip() or known.get("service.name") or "agentdur"
    )
    known.setdefault("telemetry.sdk.name", "agentdur")
    known.setdefault("telemetry.sdk.language", "python")
    known.setdefault("telemetry.sdk.version", version)
    return tuple(known.items())


def _url(environ: Mapping[str, str], signal: str, endpoint: str | None) -> str:
    if endpoint is None:
        own = environ.get(f"{_PREFIX}{signal.upper()}_ENDPOINT", "").strip()
        if own:
            return own
        endpoint = environ.get(f"{_PREFIX}ENDPOINT", "").strip()
    if not endpoint:
        return ""
    return f"{endpoint.rstrip('/')}/v1/{signal}"


def _destination(environ: Mapping[str, str], signal: str, url: str, headers: str | None) -> Destination:
    def said(name: str) -> tuple[str, str]:
        own = f"{_PREFIX}{signal.upper()}_{name}"
        value = environ.get(own, "").strip()
        return (own, value) if value else (_PREFIX + name, environ.get(_PREFIX + name, "").strip())

    if not url.startswith(("http://", "https://")):
        raise BadTelemetry(f"{url}: the endpoint is no http:// or https:// address")
    variable, protocol = said("PROTOCOL")
    if protocol not in ("", PROTOCOL):
        raise BadTelemetry(
            f"{variable}={protocol}: only {PROTOCOL} is spoken; collectors take it on port 4318"
        )
    variable, compression = said("COMPRESSION")
    if compression not in ("", "none", "gzip"):
        raise BadTelemetry(f"{variable}={compression}: takes gzip or none")
    variable, timeout = said("TIMEOUT")
    if timeout and not (timeout.isdigit() and 0 < int(timeout) <= 3_600_000):
        raise BadTelemetry(f"{variable}={timeout}: takes milliseconds, 1 to 3600000")
    pairs = _pairs("otel_headers", headers) if headers is not None else _pairs(*said("HEADERS"))
    return Destination(
        url=url, headers=tuple((name.lower(), value) for name, value in pairs),
        timeout_ms=int(timeout) if timeout else TIMEOUT_MS, gzip=compression == "gzip",
        certificate=said("CERTIFICATE")[1] or None, client_key=said("CLIENT_KEY")[1] or None,
        client_certificate=said("CLIENT_CERTIFICATE")[1] or None,
    )  # fmt: skip


def _pairs(source: str, text: str) -> list[tuple[str, str]]:
    """`name=value,name=value`, percent-encoded."""
    out = []
    for part in text.split(","):
        if not part.strip():
            continue
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise BadTelemetry(f"{source}: takes name=value,name=value")
        out.append((unquote(name.strip()), unquote(value.strip())))
    return out
