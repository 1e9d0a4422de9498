"""What a deployment may answer, and what the invocation makes of it; the engine never notices."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agentdur.core import journal as j
from agentdur.core.catalog import EMPTY
from agentdur.core.errors import BadRequest, DiscoveryFailed
from agentdur.core.ports import Answer, Request
from agentdur.runtime.owner import Engine
from agentdur.runtime.remote.deployments import Asked
from agentdur.stores.memory import MemoryStore
from agentdur.wire import messages as m
from agentdur.wire.codec import encode
from agentdur.wire.frames import pack
from tests.http.serving import lent

MANIFEST = "application/vnd.restate.endpointmanifest.v4+json"
RUN, RESULT = j.Run(completion=1, name="step"), m.ProposeRunCompletion(1, j.Success(b"1"))
OUTPUT, END = j.Output(result=j.Success(b'"done"')), m.End()


def said(*words: Any) -> bytes:
    return b"".join(encode(word, 7) for word in words)


class Peer:
    """An ASGI app over HTTP/1.1 that says what it is told to."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.asked: list[tuple[str, bytes]] = []
        self.manifest: Any = manifest()
        self.discovery = (200, MANIFEST)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if scope["path"].endswith("/discover"):
            status, kind = self.discovery
            given = self.manifest if isinstance(self.manifest, bytes) else json.dumps(self.manifest).encode()
            await self._answer(send, status, {"content-type": kind}, given)
            return
        self.asked.append((scope["path"], body))
        status, headers, frames = self.answers.pop(0) if self.answers else (200, {}, said(OUTPUT, END))
        kind = {"content-type": "application/vnd.restate.invocation.v7"}
        await self._answer(send, status, kind | headers, frames)

    async def _answer(self, send: Any, status: int, headers: dict[str, str], body: bytes) -> None:
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": body})


def manifest(**changes: Any) -> dict[str, Any]:
    handlers = [{"name": "run", "retryPolicyMaxAttempts": 1, "retryPolicyOnMaxAttempts": "KILL"}]
    keyed = [
        {"name": "look", "ty": "SHARED", "retryPolicyMaxAttempts": 1, "retryPolicyOnMaxAttempts": "KILL"}
    ]
    services = [
        {"name": "Peer", "ty": "SERVICE", "handlers": handlers},
        {"name": "Keyed", "ty": "VIRTUAL_OBJECT", "handlers": keyed},
    ]
    return {
        "protocolMode": "REQUEST_RESPONSE", "minProtocolVersion": 5, "maxProtocolVersion": 7,
        "services": services, **changes,
    }  # fmt: skip


@asynccontextmanager
async def world() -> AsyncIterator[tuple[Engine, Peer, str]]:
    """An engine without handlers of its own, and a peer."""
    peer = Peer()
    with lent(peer) as port:
        engine = Engine(MemoryStore(), {}, EMPTY)
        await engine.start()
        try:
            yield engine, peer, f"http://127.0.0.1:{port}"
        finally:
            await engine.stop()


async def call(engine: Engine, service: str = "Peer", handler: str = "run", key: str | None = None) -> Answer:
    target = engine.catalog.target(service, handler, key)
    assert target is not None
    _, answer = engine.call(Request(target=target, value=b""))
    return await asyncio.wait_for(answer, 10)


async def until(engine: Engine, invocation: Any, condition: Callable[[Any], bool]) -> Any:
    """What is shown of it, when that holds."""
    async with asyncio.timeout(10):
        while not condition(shown := await engine.describe(invocation) or {}):
            await asyncio.sleep(0.01)
    return shown


FAILURES = [
    ((404, {}, b""), "RT0012"),
    ((500, {}, b""), "RT0012"),
    ((413, {}, b""), "RT0019"),
    ((415, {}, b""), "RT0015"),
    ((502, {}, b""), "RT0010"),
    ((200, {"content-type": "application/json"}, b"{}"), "RT0012"),
    ((200, {"content-type": "application/vnd.restate.invocation.v6"}, b""), "RT0012"),
    ((200, {}, b""), "RT0007"),  # ended without a word about how
    ((200, {}, said(OUTPUT)), "RT0007"),
    ((200, {}, said(RUN)[:-2]), "RT0007"),
    ((200, {}, pack(0x1234, b"")), "RT0012"),
    ((200, {}, pack(0x0411, b"\xff")), "RT0012"),
    ((200, {}, pack(0x0411, b"")[:4] + b"\xff\xff\xff\xff"), "RT0003"),
    ((200, {}, said(m.CommandAck(1))), "RT0012"),  # the server's to say
    ((200, {}, said(RESULT)), "RT0012"),  # of a step nobody made
    ((200, {}, said(RUN, RUN)), "RT0012"),  # an id used twice
    ((200, {}, said(RUN, RESULT, RESULT)), "RT0012"),
    ((200, {}, said(j.Input())), "RT0017"),
    ((200, {}, said(j.SetState(key="a", value=b"1"))), "RT0017"),  # a plain service has no state
    ((200, {}, said(j.Call(service="No", handler="where", id_completion=1, completion=2))), "RT0018"),
    ((200, {}, said(j.GetPromise(key="p", completion=1))), "RT0017"),
    ((200, {}, said(m.Error(code=500, message="oops"))), "RT0007"),
    ((200, {}, said(m.Error(code=571, message="oops"))), "RT0012"),
]


@pytest.mark.parametrize(
    ("answer", "code"), FAILURES, ids=[f"{n}-{code}" for n, (_, code) in enumerate(FAILURES)]
)
async def test_what_a_deployment_does_wrong_fails_the_attempt_with_its_code(answer: Any, code: str):
    """The invocation ends by its policy (one attempt); the next one to the same deployment is served."""
    async with world() as (engine, peer, uri):
        await engine.deployments.register(Asked(uri=uri, http1=True))
        peer.answers = [answer]
        ended = await call(engine)
        assert isinstance(ended.result, j.Failure)
        assert dict(ended.result.metadata)["restate_code"] == code, ended.result
        assert (await call(engine)).result == j.Success(b'"done"')


async def test_a_mismatch_pauses_when_the_sdk_asks_for_it_and_fails_for_good_when_it_says_so():
    async with world() as (engine, peer, uri):
        await engine.deployments.register(Asked(uri=uri, http1=True))
        peer.answers = [(200, {}, said(m.Error(code=570, message="another command", behavior="pause")))]
        target = engine.catalog.target("Peer", "run")
        assert target is not None
        paused, _ = engine.send(Request(target=target))
        shown = await until(engine, paused, lambda shown: shown.get("status") == "paused")
        assert shown["last_failure"]["metadata"]["restate_code"] == "RT0016"
        assert await engine.operate("resume", paused)
        assert (await engine.attach(paused)).result == j.Success(b'"done"')
        peer.answers = [(200, {}, said(m.Error(code=418, message="never", behavior="fail")))]
        ended = await call(engine)
        assert isinstance(ended.result, j.Failure)
        assert (ended.result.code, ended.result.message) == (418, "never")


async def test_a_busy_deployment_is_given_the_time_it_asks_for():
    """429 with Retry-After: that delay takes the place of a back-off, and is not counted as an attempt."""
    async with world() as (engine, peer, uri):
        await engine.deployments.register(Asked(uri=uri, http1=True))
        peer.answers = [(429, {"retry-after": "0"}, b""), (503, {"retry-after": "0"}, b"")]
        assert (await call(engine)).result == j.Success(b'"done"')
        assert len(peer.asked) == 3


async def test_what_was_stored_before_a_failure_is_replayed():
    """A suspension on a result that is there already begins the next attempt at once."""
    async with world() as (engine, peer, uri):
        await engine.deployments.register(Asked(uri=uri, http1=True))
        peer.answers = [(200, {}, said(RUN, RESULT, m.Suspension(j.Awaiting((1,), (1,)))))]
        assert (await call(engine)).result == j.Success(b'"done"')
        first, second = (body for _, body in peer.asked)
        stored = said(RUN, j.Completion(1, "Run", j.Success(b"1")))
        assert stored not in first
        assert second.endswith(stored)


async def test_a_removed_deployment_serves_nothing_and_what_is_pinned_to_it_waits():
    """It is tried again by policy (RT0011); what begins anew finds no such service."""
    async with world() as (engine, peer, uri):
        peer.manifest = manifest(services=[{"name": "Peer", "ty": "SERVICE", "handlers": [{"name": "run"}]}])
        made, _ = await engine.deployments.register(Asked(uri=uri, http1=True))
        target = engine.catalog.target("Peer", "run")
        assert target is not None
        sleep = j.Sleep(wake_at=0, completion=1)
        peer.answers = [(200, {}, said(sleep, m.Suspension(j.Awaiting((), ("go",)))))]
        pinned, _ = engine.send(Request(target=target))
        shown = await until(engine, pinned, lambda shown: shown.get("status") == "suspended")
        assert shown["deployment_id"] == made.id
        await engine.deployments.remove(made.id)
        assert engine.catalog.services == {}
        await engine.signal(pinned, "go", j.Success(b"1"))
        shown = await until(engine, pinned, lambda shown: "last_failure" in shown)
        assert shown["last_failure"]["metadata"]["restate_code"] == "RT0011"


DISCOVERIES: list[tuple[Any, tuple[int, str], tuple[int, str | None]]] = [
    (b"{", (200, MANIFEST), (500, None)),
    (manifest(unknown=1), (200, MANIFEST), (500, None)),
    (manifest(), (200, "application/json"), (500, "META0013")),
    (manifest(), (200, f"{MANIFEST};charset=utf-8"), (500, "META0013")),
    (manifest(protocolMode=None), (200, MANIFEST), (500, "META0013")),
    (manifest(minProtocolVersion=7, maxProtocolVersion=5), (200, MANIFEST), (500, "META0013")),
    (manifest(minProtocolVersion=1, maxProtocolVersion=4), (200, MANIFEST), (500, "META0012")),
    (manifest(minProtocolVersion=8, maxProtocolVersion=9), (200, MANIFEST), (500, "META0012")),
    (manifest(minProtocolVersion=0), (200, MANIFEST), (500, None)),
    (manifest(), (404, MANIFEST), (500, "META0003")),
    (manifest(), (503, MANIFEST), (500, "META0003")),
    (manifest(services=[{"name": "9", "ty": "SERVICE", "handlers": []}]), (200, MANIFEST), (500, None)),
    (
        manifest(services=[{"name": "restateX", "ty": "SERVICE", "handlers": []}]),
        (200, MANIFEST), (400, "META0005"),
    ),
    (
        manifest(services=[{"name": "S", "ty": "SERVICE", "handlers": [{"name": "h", "ty": "WORKFLOW"}]}]),
        (200, MANIFEST), (400, None),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("manifest", "discovery", "expected"), DISCOVERIES)
async def test_what_cannot_be_served_is_refused_and_nothing_changes(
    manifest: Any, discovery: tuple[int, str], expected: tuple[int, str | None]
):
    async with world() as (engine, peer, uri):
        peer.manifest, peer.discovery = manifest, discovery
        with pytest.raises(DiscoveryFailed) as refused:
            await engine.deployments.register(Asked(uri=uri, http1=True))
        assert (refused.value.status, refused.value.restate_code) == expected
        assert engine.deployments.all == {}


async def test_registering_again_changes_nothing_and_forcing_makes_a_revision():
    async with world() as (engine, peer, uri):
        made, new = await engine.deployments.register(Asked(uri=uri, http1=True))
        again, new_again = await engine.deployments.register(Asked(uri=uri + "/", http1=True))
        assert (new, new_again, again.id) == (True, False, made.id)
        peer.manifest = manifest(services=[{"name": "Peer", "ty": "WORKFLOW", "handlers": []}])
        dry, _ = await engine.deployments.register(Asked(uri=uri, http1=True, force=True, dry_run=True))
        assert dry.services["Peer"].revision == 2
        assert engine.catalog.services["Peer"].revision == 1
        await engine.deployments.register(Asked(uri=uri, http1=True, force=True))
        assert (engine.catalog.services["Peer"].revision, set(engine.catalog.services)) == (2, {"Peer"})


@pytest.mark.parametrize(
    "uri", ["localhost:9080", "ftp://x", "http://", "http://x:99999", "/path", "http://x:0"]
)
async def test_what_is_no_address_is_refused(uri: str):
    async with world() as (engine, _, _):
        with pytest.raises(BadRequest):
            await engine.deployments.register(Asked(uri=uri))


async def test_deployments_outlive_the_server():
    store = MemoryStore()
    peer = Peer()
    with lent(peer) as port:
        engine = Engine(store, {}, EMPTY)
        await engine.start()
        await engine.deployments.register(Asked(uri=f"http://127.0.0.1:{port}", http1=True))
        await engine.stop()
        engine = Engine(store, {}, EMPTY)
        await engine.start()
        assert (await call(engine)).result == j.Success(b'"done"')
        assert (await call(engine, "Keyed", "look", "k")).result == j.Success(b'"done"')
        await engine.stop()


@pytest.mark.parametrize(("kind", "status"), [("WORKFLOW", 409), ("SERVICE", 200)])
async def test_another_endpoint_may_not_change_what_a_service_is(kind: str, status: int):
    """Unless the operator says that this is meant; the one that it came from may."""
    async with world() as (engine, _, uri):
        await engine.deployments.register(Asked(uri=uri, http1=True))
        other = Peer()
        other.manifest = manifest(services=[{"name": "Peer", "ty": kind, "handlers": []}])
        with lent(other) as port:
            asked = Asked(uri=f"http://127.0.0.1:{port}", http1=True)
            if status == 409:
                with pytest.raises(DiscoveryFailed) as refused:
                    await engine.deployments.register(asked)
                assert (refused.value.status, refused.value.restate_code) == (409, "META0006")
                asked = Asked(uri=asked.uri, http1=True, breaking=True)
            await engine.deployments.register(asked)
        assert engine.catalog.services["Peer"].revision == 2
