"""Calling handlers from outside: one interface, in the engine's process and over HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from agentdur import App, Context, ObjectContext, Service, VirtualObject, Workflow, WorkflowContext
from agentdur.client import Client, create_client
from agentdur.core.errors import (
    BadDefinition,
    BadRequest,
    IdempotencyNotAllowed,
    KeyRequired,
    NotSerializable,
    UnknownHandler,
    UnknownInvocation,
    UnknownService,
)
from agentdur.core.ids import FIRST_AWAKEABLE_INDEX, InvocationId, awakeable_id
from agentdur.ingress.app import create_ingress
from agentdur.sdk.client import BaseClient, ClientSendHandle, EngineClient, Output
from agentdur.sdk.exceptions import HttpError, TerminalError
from tests.http.serving import served

research = Service("Research")
cart = VirtualObject("Cart")
signup = Workflow("Signup")


class Question(BaseModel):
    text: str


class Report(BaseModel):
    title: str


@research.handler()
async def run(ctx: Context, question: Question) -> Report:
    return Report(title=question.text.upper())


@research.handler()
async def tick(ctx: Context) -> None:
    return None


@research.handler()
async def fail(ctx: Context, code: int) -> None:
    raise TerminalError("no luck", code, {"why": "test"})


@research.handler()
async def shrink(ctx: Context, image: bytes) -> bytes:
    return image[:1]


@research.handler()
async def nap(ctx: Context, ms: int) -> int:
    await ctx.sleep(timedelta(milliseconds=ms))
    return ms


@research.handler()
async def ask(ctx: Context) -> Any:
    _, answer = ctx.awakeable()
    return await answer


@research.handler()
async def headers(ctx: Context) -> dict[str, str]:
    return dict(ctx.request().headers)


@research.handler(ingress_private=True)
async def inner(ctx: Context) -> str:
    return "inside"


@cart.handler()
async def add(ctx: ObjectContext, item: str) -> list[str]:
    """All that was added under this key, after the key."""
    items = [*(await ctx.get("items") or []), item]
    ctx.set("items", items)
    return [ctx.key(), *items]


@signup.main()
async def enroll(ctx: WorkflowContext, email: str) -> str:
    return f"welcome {email}"


def app() -> App:
    return App([research, cart, signup], store="memory://")


@asynccontextmanager
async def ingress() -> AsyncIterator[Any]:
    async with app().running() as engine:
        yield create_ingress(engine)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served(ingress) as found:
        yield found


@pytest.fixture
async def inside() -> AsyncIterator[EngineClient]:
    async with app().running() as engine:
        yield EngineClient(engine)


@pytest.fixture(params=["in process", "http"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def client(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[BaseClient]:
    if kind == "in process":
        async with app().running() as engine:
            yield EngineClient(engine)
        return
    async with create_client(f"http://127.0.0.1:{request.getfixturevalue('port')}") as over_http:
        yield over_http


# Calls


async def test_a_call_takes_and_returns_what_the_handler_does(client: BaseClient):
    assert await client.service_call(run, Question(text="why")) == Report(title="WHY")
    assert await client.service_call(tick) is None
    assert await client.service_call(shrink, b"\xff\x00") == b"\xff"


@pytest.mark.parametrize("key", ["ada", "", "a/b c?d#e%20é+", "..", ".", "%2F", "send", "日本"])
async def test_any_text_is_a_key(client: BaseClient, key: str):
    assert await client.object_call(add, key, "tea") == [key, "tea"]
    assert await client.object_call(add, key, "jam") == [key, "tea", "jam"]


async def test_a_terminal_failure_reaches_the_caller_with_code_and_metadata(client: BaseClient):
    for code in (418, 409, 500):
        with pytest.raises(TerminalError) as caught:
            await client.service_call(fail, code)
        assert (caught.value.status_code, caught.value.message) == (code, "no luck")
        assert caught.value.metadata == {"why": "test"}


@pytest.mark.parametrize("code", [0, 99, 200, 302, 1234])
async def test_also_with_a_code_that_is_no_error_of_http(client: BaseClient, code: int):
    with pytest.raises(TerminalError) as caught:
        await client.service_call(fail, code)
    assert caught.value.status_code == code


async def test_headers_reach_the_handler(client: BaseClient):
    seen = await client.service_call(headers, headers={"X-Trace": "abc"})
    assert seen["x-trace"] == "abc"


async def test_two_calls_with_one_idempotency_key_are_one_invocation(client: BaseClient):
    for _ in range(2):
        added = await client.object_call(add, "basket", "tea", idempotency_key="only once")
        assert added == ["basket", "tea"]
    assert await client.object_call(add, "basket", "jam") == ["basket", "tea", "jam"]


async def test_names_and_bytes_do_as_well(client: BaseClient):
    assert await client.generic_call("Cart", "add", b'"tea"', key="x/y") == b'["x/y","tea"]'


# Sends


async def test_a_send_is_answered_when_it_is_durable_and_can_be_attached_to(client: BaseClient):
    sent = await client.service_send(nap, 50)
    assert sent.fresh
    assert await client.output(sent.invocation_id, nap) is None
    assert await client.attach(sent.invocation_id, nap) == 50
    assert await client.output(sent.invocation_id, nap) == Output(50)


@pytest.mark.slow
async def test_a_send_may_wait(client: BaseClient):
    begun = time.monotonic()
    sent = await client.service_send(nap, 0, send_delay=timedelta(milliseconds=200))
    later = await client.object_send(add, "later", "tea", send_delay=timedelta(hours=1, milliseconds=2))
    assert await client.attach(sent.invocation_id, nap) == 0
    assert time.monotonic() - begun >= 0.2
    assert await client.output(later.invocation_id) is None


async def test_a_send_that_was_made_before_says_so(client: BaseClient):
    first = await client.generic_send("Research", "tick", b"", idempotency_key="k1")
    again = await client.generic_send("Research", "tick", b"", idempotency_key="k1")
    assert (first.fresh, again.fresh) == (True, False)
    assert again.invocation_id == first.invocation_id


async def test_a_failed_invocation_fails_who_attaches(client: BaseClient):
    sent = await client.service_send(fail, 418)
    with pytest.raises(TerminalError, match="no luck"):
        await client.attach(sent.invocation_id)
    with pytest.raises(TerminalError, match="no luck"):
        await client.output(sent.invocation_id)


# Workflows


async def test_a_workflow_runs_once_and_its_result_stays(client: BaseClient, kind: str):
    key = f"{kind}/ada"
    assert await client.workflow_call(enroll, key, "ada@x") == "welcome ada@x"
    with pytest.raises(TerminalError) as caught:
        await client.workflow_call(enroll, key, "ada@x")
    assert caught.value.status_code == 409
    assert not (await client.workflow_send(enroll, key, "ada@x")).fresh
    assert await client.workflow_attach(enroll, key) == "welcome ada@x"
    assert await client.workflow_output(enroll, key) == Output("welcome ada@x")


async def test_only_a_workflow_is_asked_for_by_its_key(client: BaseClient):
    with pytest.raises(BadRequest, match="no workflow's main handler"):
        await client.workflow_attach(add, "ada")


# Awakeables


async def test_awakeables_are_resolved_and_rejected(client: BaseClient):
    first, second, third = [await client.service_send(ask) for _ in range(3)]
    await client.resolve_awakeable(awakeable_of(first), {"ok": True})
    await client.resolve_awakeable(awakeable_of(second))
    await client.reject_awakeable(awakeable_of(third), "nö")
    assert await client.attach(first.invocation_id) == {"ok": True}
    assert await client.attach(second.invocation_id) is None
    with pytest.raises(TerminalError, match="nö"):
        await client.attach(third.invocation_id)


def awakeable_of(sent: ClientSendHandle) -> str:
    """The id of its first awakeable; a handler would tell it to the outside."""
    return awakeable_id(InvocationId(sent.invocation_id), FIRST_AWAKEABLE_INDEX)


# Refused


async def test_what_the_caller_did_wrong_is_refused_before_anything_is_sent(client: BaseClient):
    with pytest.raises(BadRequest, match="takes no argument"):
        await client.service_call(tick, 3)  # type: ignore[call-overload]  # the point
    with pytest.raises(BadRequest, match="send_delay cannot be negative"):
        await client.service_send(tick, send_delay=timedelta(seconds=-1))
    with pytest.raises(NotSerializable):
        await client.service_call(run, object())  # type: ignore[arg-type]  # the point
    with pytest.raises(BadDefinition, match="no handler"):
        await client.service_call(app)  # type: ignore[call-overload]  # the point


async def test_the_services_are_listed(client: BaseClient):
    assert await client.health() == ["Cart", "Research", "Signup"]


async def test_in_the_process_wrong_names_and_keys_are_errors_of_the_caller(inside: EngineClient):
    client = inside
    with pytest.raises(UnknownService):
        await client.generic_call("Nobody", "run", b"")
    with pytest.raises(UnknownHandler):
        await client.generic_call("Cart", "remove", b"", key="k")
    with pytest.raises(KeyRequired):
        await client.service_call(add, "tea")
    with pytest.raises(KeyRequired):
        await client.object_call(run, "key", Question(text="x"))
    with pytest.raises(IdempotencyNotAllowed):
        await client.workflow_call(enroll, "k", "x", idempotency_key="no")
    with pytest.raises(BadRequest, match="bad invocation id"):
        await client.attach("inv_nonsense")
    with pytest.raises(BadRequest, match="bad awakeable id"):
        await client.resolve_awakeable("sign_nonsense")
    with pytest.raises(UnknownInvocation):
        await client.attach("inv_1cixoeqOzcLa6IRaXfbBYPAiNxd2EKgA9a")


async def test_in_the_process_private_handlers_can_be_called(inside: EngineClient):
    assert await inside.service_call(inner) == "inside"


async def test_over_http_what_the_server_refuses_is_an_http_error(port: int):
    async with Client(f"http://127.0.0.1:{port}/") as client:
        refused = [
            (404, client.generic_call("Nobody", "run", b"")),
            (404, client.generic_call("Cart", "remove", b"", key="k")),
            (400, client.service_call(inner)),
            (400, client.workflow_call(enroll, "k", "x", idempotency_key="no")),
            (400, client.output("inv_nonsense")),
            (404, client.output("inv_1cixoeqOzcLa6IRaXfbBYPAiNxd2EKgA9a")),
            (400, client.resolve_awakeable("sign_nonsense")),
        ]
        for status, call in refused:
            with pytest.raises(HttpError) as caught:
                await call
            assert caught.value.status_code == status
            assert caught.value.message
            assert caught.value.message in (caught.value.body or "")


async def test_an_idempotency_key_is_ascii_over_http(port: int):
    async with Client(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(BadRequest, match="printable ASCII"):
            await client.service_call(tick, idempotency_key="é")


async def test_a_server_that_is_not_there_is_what_httpx_says():
    async with Client("http://127.0.0.1:1") as client:
        with pytest.raises(httpx.ConnectError):
            await client.health()


async def test_a_client_that_was_brought_stays_open(port: int):
    async with httpx.AsyncClient() as http:
        async with Client(f"http://127.0.0.1:{port}", {"x-all": "1"}, http=http) as client:
            assert (await client.service_call(headers))["x-all"] == "1"
        assert not http.is_closed


@pytest.mark.slow
async def test_many_calls_may_wait_at_once(client: BaseClient):
    """More than the connections an HTTP client keeps by default."""
    assert await asyncio.gather(*(client.service_call(nap, 100) for _ in range(150))) == [100] * 150
