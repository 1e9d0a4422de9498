"""Our side of the comparison: the same services on our engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import agentdur
from agentdur.ingress.app import create_ingress
from agentdur.sdk.serde import BytesSerde
from tests.http.both_services import services

SDK = SimpleNamespace(
    Service=agentdur.Service,
    VirtualObject=agentdur.VirtualObject,
    Workflow=agentdur.Workflow,
    TerminalError=agentdur.TerminalError,
    BytesSerde=BytesSerde,
)


@asynccontextmanager
async def both_ingress() -> AsyncIterator[Any]:
    """An ingress in front of a running engine."""
    async with agentdur.App(services(SDK)).running("memory://") as engine:
        yield create_ingress(engine)
