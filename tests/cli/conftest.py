"""A server to point the command at, and the command itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
import pytest

from agentdur import App, ObjectContext, Service, TerminalError, VirtualObject
from agentdur.admin.app import create_admin
from agentdur.admin.settings import AdminSettings
from agentdur.cli import main
from agentdur.ingress.app import create_ingress
from agentdur.server.frontends import operators_guests
from agentdur.sessions import chat
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


@work.handler()
async def broken(ctx: Any) -> None:
    raise TerminalError("no way", status_code=418)


room = VirtualObject("Room")
desk = Service("Desk")


@room.handler()
async def enter(ctx: ObjectContext, n: int) -> int:
    ctx.set("n", n)
    return n


@room.handler()
async def stay(ctx: ObjectContext) -> None:
    _, future = ctx.awakeable()
    await future


@desk.handler()
async def ask(ctx: Any, amount: int) -> dict[str, Any]:
    """A person decides."""
    said = await ctx.approval("pay?", payload={"amount": amount})
    return {"approved": said.approved, "payload": said.payload, "by": said.by, "reason": said.reason}


async def echo(ctx: ObjectContext, messages: list[Any]) -> str:
    """An agent of few words."""
    return f"heard {messages[-1]['content']}"


class Server(NamedTuple):
    url: str

    def post(self, path: str, body: Any = None) -> Any:
        """What the ingress answers."""
        given = {} if body is None else {"json": body}
        return httpx.post(f"{self.url}{PREFIX}/{path}", timeout=30, **given).raise_for_status().json()

    def chat(self, agent: str, session: str, text: str) -> None:
        """Say something, and wait for the answer."""
        path = f"{self.url}/sessions/{agent}/{session}/messages"
        httpx.post(path, json={"content": text}, timeout=30).raise_for_status()

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
    app = App([work, room, desk, chat(echo, name="Helper")])
    async with app.running("memory://") as engine:
        about = AdminSettings(ingress_endpoint="http://ingress/", version="9.9")
        guests = operators_guests(app, engine)
        admin = create_admin(engine, about, deployments=engine.deployments, guests=guests)
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
