"""Calling handlers from outside: one interface, in the engine's process and over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from agentdur.client import Client, create_client
from agentdur.core.catalog import Catalog, HandlerOptions
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
from agentdur.core.ids import InvocationId, awakeable_id
from agentdur.core.journal import Failure, Success
from agentdur.core.ports import Request
from agentdur.ingress.app import create_ingress
from agentdur.sdk.client import BaseClient, EngineClient, Output
from agentdur.sdk.exceptions import HttpError, TerminalError
from agentdur.sdk.service import Handler, Service, VirtualObject, Workflow
from tests.http.memory_engine import MemoryEngine, Refused, as_engine
from tests.http.serving import just, served

research = Service("Research")
cart = VirtualObject("Cart")
signup = Workflow("Signup")


class Question(BaseModel):
    text: str


class Report(BaseModel):
    title: str


@research.handler()
async def run(ctx: Request, question: Question) -> Report:
    return Report(title=question.text.upper())


@research.handler()
async def tick(ctx: Request) -> None:
    return None


@research.handler()
async def fail(ctx: Request, code: int) -> None:
    raise Refused(Failure(code, "no luck", metadata=(("why", "test"),)))


@research.handler()
async def shrink(ctx: Request, image: bytes) -> bytes:
    return image[:1]


@research.handler()
async def nap(ctx: Request, ms: int) -> int:
    await asyncio.sleep(ms / 1000)
    return ms


@research.handler()
async def headers(ctx: Request) -> dict[str, str]:
    return dict(ctx.headers)


@research.handler(ingress_private=True)
async def inner(ctx: Request) -> str:
    return "inside"


@cart.handler()
async def add(ctx: Request, item: str) -> list[str]:
    assert ctx.target.key is not None
    return [ctx.target.key, item]


@signup.main()
async def enroll(ctx: Request, email: str) -> str:
    return f"welcome {email}"


def runs(handler: Handler) -> Callable[[Request], Any]:
    """The user's function over bytes; the request stands in for the context."""

    async def answer(request: Request) -> bytes:
        if not handler.takes_input:
            return handler.output_serde.serialize(await handler.fn(request))
        arg = handler.input_serde.deserialize(request.value)
        return handler.output_serde.serialize(await handler.fn(request, arg))

    return answer


def world() -> MemoryEngine:
    services = [research, cart, signup]
    handlers = {
        (service.name, handler.name): runs(handler)
        for service in services
        for handler in service.handlers.values()
    }
    catalog = Catalog({service.name: service.meta(HandlerOptions()) for service in services})
    return MemoryEngine(catalog, handlers)


@pytest.fixture(scope="module")
def remote() -> Iterator[tuple[MemoryEngine, int]]:
    engine = world()
    with served(lambda: just(create_ingress(as_engine(engine)))) as port:
        yield engine, port


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> MemoryEngine:
    """The engine behind `client`."""
    return request.getfixturevalue("remote")[0] if request.getfixturevalue("kind") == "http" else world()


@pytest.fixture(params=["in process", "http"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def client(
    kind: str, engine: MemoryEngine, request: pytest.FixtureRequest
) -> AsyncIterator[BaseClient]:
    if kind == "in process":
        yield EngineClient(as_engine(engine))
        return
    async with create_client(f"http://127.0.0.1:{request.getfixturevalue('remote')[1]}") as over_http:
        yield over_http


# Calls


async def test_a_call_takes_and_returns_what_the_handler_does(client: BaseClient):
    assert await client.service_call(run, Question(text="why")) == Report(title="WHY")
    assert await client.service_call(tick) is None
    assert await client.service_call(shrink, b"\xff\x00") == b"\xff"


@pytest.mark.parametrize("key", ["ada", "", "a/b c?d#e%20é+", "..", ".", "%2F", "send", "日本"])
async def test_any_text_is_a_key(client: BaseClient, key: str):
    assert await client.object_call(add, key, "tea") == [key, "tea"]


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


async def test_two_calls_with_one_idempotency_key_are_one_invocation(
    client: BaseClient, engine: MemoryEngine
):
    before = len(engine.requests)
    for _ in range(2):
        await client.service_call(run, Question(text="once"), idempotency_key="only once")
    assert len(engine.requests) == before + 1


async def test_names_and_bytes_do_as_well(client: BaseClient):
    assert await client.generic_call("Cart", "add", b'"tea"', key="a/b") == b'["a/b","tea"]'


# Sends


async def test_a_send_is_answered_when_it_is_durable_and_can_be_attached_to(client: BaseClient):
    sent = await client.service_send(nap, 50)
    assert sent.fresh
    assert await client.output(sent.invocation_id, nap) is None
    assert await client.attach(sent.invocation_id, nap) == 50
    assert await client.output(sent.invocation_id, nap) == Output(50)


async def test_a_send_may_wait(client: BaseClient, engine: MemoryEngine):
    sent = await client.object_send(add, "ada", "tea", send_delay=timedelta(hours=1, milliseconds=2))
    assert engine.records[InvocationId(sent.invocation_id)].request.delay_ms == 3_600_002
    assert await client.output(sent.invocation_id) is None


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


async def test_awakeables_are_resolved_and_rejected(client: BaseClient, engine: MemoryEngine):
    sent = await client.service_send(tick)
    invocation = InvocationId(sent.invocation_id)
    await client.resolve_awakeable(awakeable_id(invocation, 17), {"ok": True})
    await client.resolve_awakeable(awakeable_id(invocation, 18))
    await client.reject_awakeable(awakeable_id(invocation, 19), "nö")
    assert [one for one in engine.signals if one[0] == invocation] == [
        (invocation, 17, Success(b'{"ok":true}')),
        (invocation, 18, Success(b"")),
        (invocation, 19, Failure(500, "nö")),
    ]


# Refused


async def test_what_the_caller_did_wrong_is_refused_before_anything_is_sent(
    client: BaseClient, engine: MemoryEngine
):
    before = len(engine.requests)
    with pytest.raises(BadRequest, match="takes no argument"):
        await client.service_call(tick, 3)  # type: ignore[call-overload]  # the point
    with pytest.raises(BadRequest, match="send_delay cannot be negative"):
        await client.service_send(tick, send_delay=timedelta(seconds=-1))
    with pytest.raises(NotSerializable):
        await client.service_call(run, object())  # type: ignore[arg-type]  # the point
    with pytest.raises(BadDefinition, match="no handler"):
        await client.service_call(world)  # type: ignore[call-overload]  # the point
    assert len(engine.requests) == before


async def test_the_services_are_listed(client: BaseClient):
    assert await client.health() == ["Cart", "Research", "Signup"]


async def test_in_the_process_wrong_names_and_keys_are_errors_of_the_caller():
    client = EngineClient(as_engine(world()))
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


async def test_in_the_process_private_handlers_can_be_called():
    assert await EngineClient(as_engine(world())).service_call(inner) == "inside"


async def test_over_http_what_the_server_refuses_is_an_http_error(remote: tuple[MemoryEngine, int]):
    async with Client(f"http://127.0.0.1:{remote[1]}/") as client:
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


async def test_an_idempotency_key_is_ascii_over_http(remote: tuple[MemoryEngine, int]):
    async with Client(f"http://127.0.0.1:{remote[1]}") as client:
        with pytest.raises(BadRequest, match="printable ASCII"):
            await client.service_call(tick, idempotency_key="é")


async def test_a_server_that_is_not_there_is_what_httpx_says():
    async with Client("http://127.0.0.1:1") as client:
        with pytest.raises(httpx.ConnectError):
            await client.health()


async def test_a_client_that_was_brought_stays_open(remote: tuple[MemoryEngine, int]):
    async with httpx.AsyncClient() as http:
        async with Client(f"http://127.0.0.1:{remote[1]}", {"x-all": "1"}, http=http) as client:
            assert (await client.service_call(headers))["x-all"] == "1"
        assert not http.is_closed


async def test_many_calls_may_wait_at_once(client: BaseClient):
    """More than the connections an HTTP client keeps by default."""
    assert await asyncio.gather(*(client.service_call(nap, 100) for _ in range(150))) == [100] * 150
