"""An engine in memory with invocations in every status, and its admin application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from agentdur import App, ObjectContext, Service, VirtualObject, Workflow, WorkflowContext
from agentdur.admin.app import create_admin
from agentdur.core.catalog import ServiceMeta
from agentdur.sdk.client import EngineClient

work = Service("Work", metadata={"team": "blue"}, inactivity_timeout=timedelta(seconds=5))
room = VirtualObject("Room")
signup = Workflow("Signup")


@work.handler()
async def quick(ctx: Any, text: str) -> str:
    """Says it again."""
    return text


@work.handler(inactivity_timeout=timedelta(seconds=1))
async def step(ctx: Any) -> str:
    first: str = await ctx.run("first", lambda: "one")
    return first


@work.handler()
async def wait(ctx: Any) -> str:
    _, future = ctx.awakeable()
    answer: str = await future
    return answer


@work.handler()
async def broken(ctx: Any) -> None:
    raise ValueError("not yet")


@room.handler()
async def enter(ctx: ObjectContext) -> None:
    _, future = ctx.awakeable()
    await future


@signup.main()
async def run(ctx: WorkflowContext) -> str:
    return "done"


class World:
    """Invocations are made through `client`, looked at and operated through `http`."""

    def __init__(self, client: EngineClient, http: httpx.AsyncClient) -> None:
        self.client, self.http = client, http

    async def started(self, status: str) -> str:
        """The id of a new invocation in this status."""
        match status:
            case "scheduled":
                sent = await self.client.service_send(quick, "x", send_delay=timedelta(hours=1))
            case "pending":
                await self.client.object_send(enter, "k")
                sent = await self.client.object_send(enter, "k")
            case "running" | "paused":
                sent = await self.client.service_send(wait)
            case "backing-off":
                sent = await self.client.service_send(broken)
            case _:
                sent = await self.client.service_send(quick, "x")
        if status == "paused":
            await self.until(sent.invocation_id, "running")
            await self.http.patch(f"/invocations/{sent.invocation_id}/pause")
        await self.until(sent.invocation_id, status)
        return sent.invocation_id

    async def status(self, invocation: str) -> str | None:
        """What the admin API says; None when there is no record."""
        found = await self.http.get(f"/invocations/{invocation}")
        return None if found.status_code == 404 else str(found.json()["status"])

    async def until(self, invocation: str, status: str | None) -> None:
        """Wait until it has this status."""
        async with asyncio.timeout(10):
            while await self.status(invocation) != status:  # asks over HTTP
                await asyncio.sleep(0.005)


def openapi(service: ServiceMeta) -> dict[str, Any]:
    return {"openapi": "3.1.0", "info": {"title": service.name}}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    app = App([work, room, signup])
    async with app.running("memory://") as engine:
        admin = httpx.ASGITransport(create_admin(engine, openapi=openapi, deployments=engine.deployments))
        async with httpx.AsyncClient(transport=admin, base_url="http://admin") as http:
            yield World(EngineClient(engine), http)
