"""What the settings say, in the words of the part that keeps them."""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from agentdur.config import Settings, installed_version
from agentdur.core.errors import BadIdentityKey
from agentdur.core.query import QueryLimits
from agentdur.core.visitors import ANY, Visitors, known_hosts
from agentdur.ingress.settings import IngressSettings
from agentdur.runtime.owner import Knobs
from agentdur.runtime.remote.deployments import Signer
from agentdur.runtime.streams import StreamLimits
from agentdur.sdk.endpoint import identity

BACKLOG = 2048
"""Connections to a port that may wait to be accepted."""


def knobs_of(settings: Settings) -> Knobs:
    """The settings that the engine itself keeps."""
    return Knobs(
        live_attempts=settings.live_attempts_limit,
        entry_size=settings.entry_size_limit,
        journal_length=settings.journal_length_limit,
        cleanup_seconds=settings.cleanup_interval.total_seconds(),
        message_seconds=settings.message_retention.total_seconds(),
        shutdown_seconds=settings.shutdown_timeout.total_seconds(),
        streams=StreamLimits(
            step_bytes=settings.stream_size_limit,
            readers=settings.stream_readers_limit,
            readers_of_one=settings.stream_readers_per_invocation_limit,
        ),
        tool_answer=settings.tool_answer_limit,
        failed_attempts=settings.failed_attempts_limit,
        node=settings.node_name or socket.gethostname(),
        queries=QueryLimits(
            seconds=settings.query_timeout.total_seconds(),
            rows=settings.query_rows_limit,
            bytes=settings.query_size_limit,
            running=settings.query_concurrency,
            waiting=settings.query_queue_limit,
            search_seconds=settings.search_timeout.total_seconds(),
        ),
    )


def signer_of(settings: Settings) -> Signer | None:
    """Signs requests to deployments, when a key is set."""
    path = settings.request_identity_key
    if path is None:
        return None
    try:
        pem = Path(path).read_bytes()
    except OSError as error:
        raise BadIdentityKey(f"{path}: {error.strerror or error}") from error
    signer: Signer = identity().Signer(pem)
    return signer


@asynccontextmanager
async def telemetry_of(settings: Settings, expose: bool) -> AsyncIterator[Any]:
    """What observes the engine, while it runs; None when nothing is wanted: then nothing is even imported."""
    standard = any(name.startswith("OTEL_EXPORTER_OTLP_") for name in os.environ)
    if not (standard or settings.otel_endpoint or (expose and settings.metrics)):
        yield None
        return
    setup = importlib.import_module("agentdur.telemetry.setup")
    telemetry = setup.set_up(settings, os.environ, installed_version(), expose=expose)
    if telemetry is None:
        yield None
        return
    pushing = asyncio.create_task(telemetry.push_regularly(), name="agentdur-telemetry")
    try:
        yield telemetry
    finally:
        pushing.cancel()
        telemetry.push_metrics()
        await asyncio.shield(asyncio.to_thread(telemetry.stop))


def ingress_settings(settings: Settings, *, loopback: bool = False) -> IngressSettings:
    """The settings that the ingress keeps. `loopback`: only this machine reaches it."""
    return IngressSettings(
        visitors=_callers(settings, loopback),
        request_bytes_max=settings.request_size_limit,
        concurrent_requests_max=settings.concurrent_requests_limit or None,
        stream_heartbeat_ms=settings.stream_heartbeat_interval // timedelta(milliseconds=1),
        stream_stall_ms=settings.stream_stall_timeout // timedelta(milliseconds=1),
    )


def _callers(settings: Settings, loopback: bool) -> Visitors:
    """Which web pages may call handlers. As in the reference all may, unless nobody else comes here but by a
    browser on this machine."""
    hosts = known_hosts(settings.allowed_hosts, settings.public_url, loopback=loopback)
    named = settings.cors_origins
    if ANY in named or not (named or loopback):
        return Visitors(origins=None, hosts=hosts)
    return Visitors(origins=frozenset(named), machine=not named, hosts=hosts)


def operators(settings: Settings, *, loopback: bool) -> Visitors:
    """Which web pages may operate."""
    hosts = known_hosts(settings.allowed_hosts, settings.public_url, loopback=loopback)
    return Visitors(origins=frozenset(settings.admin_origins), hosts=hosts)
