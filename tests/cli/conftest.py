"""A server to point the command at, and the command itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
import pytest

from agentdur import App, Service
from agentdur.admin.app import create_admin
from agentdur.admin.settings import AdminSettings
from agentdur.cli import main
from agentdur.ingress.app import create_ingress
from tests.http.serving import served

PREFIX = "/ingress"

work = Service("Work")


@work.handler()
async def quick(ctx: Any, text: str) -> str:
    """Says it again."""
    return text


@work.handler()
async def wait(ctx: Any) -> str:
    _, future = ctx.awakeable()
    answer: str = await future
    return answer


class Server(NamedTuple):
    url: str

    def send(self, handler: str, body: Any = None, delay: str | None = None) -> str:
        """The id of a new invocation."""
        query = f"?delay={delay}" if delay else ""
        path = f"{self.url}{PREFIX}/Work/{handler}/send{query}"
        sent = httpx.post(path, json=body) if body is not None else httpx.post(path)
        return str(sent.raise_for_status().json()["invocationId"])

    def finished(self, text: str) -> str:
        """The id of an invocation that has ended."""
        sent = self.send("quick", text)
        httpx.get(f"{self.url}{PREFIX}/restate/attach/{sent}").raise_for_status()
        return sent


@asynccontextmanager
async def both_doors() -> AsyncIterator[Any]:
    """Admin and ingress on one port: one engine lives on one loop."""
    async with App([work]).running("memory://") as engine:
        admin = create_admin(engine, AdminSettings(ingress_endpoint="http://ingress/", version="9.9"))
        ingress = create_ingress(engine)

        async def door(scope: Any, receive: Any, send: Any) -> None:
            if not scope["path"].startswith(PREFIX):
                await admin(scope, receive, send)
                return
            rest = {name: scope[name][len(PREFIX) :] for name in ("path", "raw_path")}
            await ingress({**scope, **rest}, receive, send)

        yield door


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with served(both_doors) as port:
        yield Server(f"http://127.0.0.1:{port}")


class Told(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


@pytest.fixture
def agentdur(capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """Runs the command in this process."""

    def run(*arguments: str) -> Told:
        code = main(list(arguments))
        captured = capsys.readouterr()
        return Told(int(code), captured.out, captured.err)

    return run
