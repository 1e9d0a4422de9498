"""The App inside somebody else's program: mounted, in a script, in a loop that runs already."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from agentdur import App, Context, Service
from agentdur.config import load_settings
from agentdur.core.errors import BadStoreUrl, NotRunning, StoreLocked
from agentdur.server import store_of
from agentdur.stores import MemoryStore, SqliteStore
from tests.acceptance.server import AGENT, environment, free_ports, until

MEMORY = "memory://"

greeter = Service("Greeter")


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    return await ctx.run("greeting", lambda: f"hello {name}")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings file, no database in the folder of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)


def mounted(agents: App, **more: Any) -> FastAPI:
    """A program of the user's with the agents below a path."""
    web = FastAPI(**more)
    web.mount("/agents", agents)

    @web.get("/mine")
    def mine() -> str:
        return "mine"

    return web


@asynccontextmanager
async def visiting(web: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an ASGI app whose lifespan is not run."""
    transport = httpx.ASGITransport(app=web, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
        yield client


async def ask(client: httpx.AsyncClient, prefix: str = "/agents") -> httpx.Response:
    return await client.post(f"{prefix}/Greeter/greet", json="Ada")


async def test_mounted_with_its_lifespan():
    agents = App([greeter], store=MEMORY)
    web = mounted(agents, lifespan=agents.lifespan)
    for _ in range(2):  # the same program may start again
        async with web.router.lifespan_context(web), visiting(web) as client:
            assert agents.engine is not None
            assert (await ask(client)).json() == "hello Ada"
            assert (await client.get("/mine")).json() == "mine"
            assert (await client.get("/agents/restate/health")).json() == {"services": ["Greeter"]}
            assert (await client.post("/agents/Greeter/nope")).status_code == 404
        assert agents.engine is None


def test_mounted_without_its_lifespan():
    """The first request starts the engine, and the end of the loop stops it in order."""
    agents = App([greeter], store="sqlite:///late.db")

    async def visit() -> list[str]:
        async with visiting(mounted(agents)) as client:
            answers = await asyncio.gather(ask(client), ask(client))  # both find no engine
            return [str(answer.json()) for answer in answers]

    for _ in range(2):
        assert asyncio.run(visit()) == ["hello Ada"] * 2
        assert agents.engine is None
    again = SqliteStore("late.db")
    again.open()  # nobody holds it any more
    again.close()


async def test_what_keeps_the_engine_from_starting_is_answered():
    agents = App([greeter], store="sqlite:///nowhere/a.db")
    async with visiting(mounted(agents)) as client:
        for _ in range(2):
            answer = await ask(client)
            assert (answer.status_code, answer.json()["source"]) == (503, "ingress")
            assert "there is no folder" in answer.json()["message"]


def test_a_script_that_runs_it_twice():
    app = App([greeter], store="sqlite:///script.db")

    async def main() -> str:
        async with app.running() as engine:
            return str(await engine.client().service_call(greet, "Ada"))

    assert [asyncio.run(main()) for _ in range(2)] == ["hello Ada"] * 2


async def test_in_a_loop_that_runs_already_like_a_notebooks():
    app = App([greeter], store=MEMORY)
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    running = app.running()
    engine = await running.__aenter__()  # one cell
    assert await engine.client().service_call(greet, "Ada") == "hello Ada"  # another one
    with pytest.raises(NotRunning, match="runs already"):
        await app.running().__aenter__()
    await running.__aexit__(None, None, None)
    assert loop.get_task_factory() is before
    with pytest.raises(NotRunning):
        await engine.client().service_call(greet, "too late")


async def test_an_error_of_the_users_own_stops_the_engine_and_comes_through():
    app = App([greeter], store="sqlite:///mine.db")
    with pytest.raises(ZeroDivisionError):
        async with app.running():
            raise ZeroDivisionError
    async with app.running() as engine:
        assert await engine.client().service_call(greet, "Ada") == "hello Ada"


async def test_two_apps_on_two_stores_and_the_same_store_twice():
    one, other = App([greeter], store="sqlite:///one.db"), App([greeter], store="sqlite:///other.db")
    async with one.running() as first, other.running() as second:
        assert await first.client().service_call(greet, "one") == "hello one"
        assert await second.client().service_call(greet, "other") == "hello other"
        with pytest.raises(StoreLocked, match="open in this process already"):
            await App([greeter], store="sqlite:///one.db").running().__aenter__()
        assert await first.client().service_call(greet, "still") == "hello still"


async def test_a_store_address_that_is_none():
    with pytest.raises(BadStoreUrl, match="Use sqlite:///"):
        await App([greeter], store="mysql://host").running().__aenter__()


def test_whose_word_on_the_store_counts(tmp_path: Path):
    own = MemoryStore()
    app = App([greeter], store=own)
    assert store_of(app, load_settings(environ={})) is own
    assert store_of(App([greeter]), load_settings(environ={})) == "sqlite:///agentdur.db"
    assert store_of(app, load_settings({"store": MEMORY}, environ={})) == MEMORY
    assert store_of(app, load_settings(environ={"AGENTDUR_STORE": MEMORY})) == MEMORY
    (tmp_path / "agentdur.toml").write_text('store = "sqlite:///file.db"\n')
    assert store_of(app, load_settings(environ={})) == "sqlite:///file.db"


# -- in processes of their own


@contextmanager
def process(*arguments: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, *arguments], cwd=folder, env=environment() | {"AGENTDUR_STORE": "sqlite:///own.db"},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.communicate()


@pytest.mark.slow
def test_served_by_plain_uvicorn(tmp_path: Path):
    port, _ = free_ports()
    (tmp_path / "agents.py").write_text(AGENT.read_text())
    with process("-m", "uvicorn", "agents:app", "--port", str(port), folder=tmp_path) as child:

        def say() -> str | None:
            assert child.poll() is None, child.communicate()[0]
            try:
                return str(httpx.post(f"http://127.0.0.1:{port}/Desk/say", json="hello").json())
            except httpx.TransportError:
                return None

        assert until(say) == "hello"
        child.terminate()
        said, _ = child.communicate(timeout=30)
        assert "Application shutdown complete" in said
        assert "Traceback" not in said


SCRIPT = """
from agentdur import App, Service
from agentdur.config import Settings
from agentdur.server import serve
from agentdur.stores import SqliteStore

service = Service("Nothing")

@service.handler()
async def nothing(ctx):
    pass

app = App([service], store=SqliteStore("object.db"))
raise SystemExit(serve(app, Settings(ingress_port=0, admin_port=0)))
"""


@pytest.mark.slow
def test_the_apps_own_store_object_is_served(tmp_path: Path):
    with process("-c", SCRIPT, folder=tmp_path) as child:
        until(lambda: (tmp_path / "object.db").exists() or child.poll() is not None)
        assert child.stdout is not None
        assert "serves Nothing" in child.stdout.readline()
        child.terminate()
        assert child.wait(30) == 0
        assert not (tmp_path / "agentdur.db").exists()


def test_a_script_does_not_load_the_web_framework():
    """It costs more than everything else together."""
    program = "import agentdur, agentdur.cli, sys; print({'fastapi', 'uvicorn'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
