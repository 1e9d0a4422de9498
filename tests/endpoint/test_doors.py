"""The endpoint's routes: discovery, what is not there, and who may call."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from starlette.applications import Starlette
from starlette.routing import Mount

from agentdur import App, Context, InvocationRetryPolicy, Service, VirtualObject, Workflow, WorkflowContext
from agentdur.core.errors import BadIdentityKey
from agentdur.sdk.endpoint import Endpoint
from agentdur.wire.identity import Signer, Verifier

plain = Service("Plain", metadata={"team": "a"})
svc = Service("Svc", metadata={"team": "a"}, inactivity_timeout=timedelta(seconds=5))
obj = VirtualObject("Obj", enable_lazy_state=True, ingress_private=True)
wf = Workflow("Wf")


@svc.handler(
    idempotency_retention=timedelta(hours=2),
    invocation_retry_policy=InvocationRetryPolicy(max_attempts=3, on_max_attempts="kill"),
)
async def greet(ctx: Context, name: str) -> str:
    """Says hello."""
    return name


@plain.handler()
async def nothing(ctx: Context) -> None:
    return None


@obj.handler(kind="shared")
async def look(ctx: Any) -> None:
    return None


@wf.main(workflow_completion_retention=timedelta(days=3))
async def run(ctx: WorkflowContext, data: bytes) -> bytes:
    return data


MANIFEST = "application/vnd.restate.endpointmanifest.v{}+json"
ALL = ", ".join(MANIFEST.format(n) for n in (1, 2, 3, 4))


async def ask(app: Any, path: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://endpoint") as client:
        return await client.get(path, headers=headers)


async def test_discovery_tells_what_was_written_and_nothing_else():
    answer = await ask(App([svc, obj, wf]).endpoint(), "/discover", accept=ALL)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == MANIFEST.format(4)
    manifest = answer.json()
    assert manifest["protocolMode"] == "REQUEST_RESPONSE"
    assert (manifest["minProtocolVersion"], manifest["maxProtocolVersion"]) == (5, 7)
    services = {service["name"]: service for service in manifest["services"]}
    assert services["Svc"]["metadata"] == {"team": "a"}
    assert services["Svc"]["inactivityTimeout"] == 5000  # where an operator may set another one
    assert services["Svc"]["handlers"] == [
        {
            "name": "greet", "documentation": "Says hello.",
            "idempotencyRetention": 7_200_000,
            "retryPolicyMaxAttempts": 3, "retryPolicyOnMaxAttempts": "KILL",
            "input": {"required": False, "contentType": "application/json", "jsonSchema": {"type": "string"}},
            "output": {
                "contentType": "application/json", "setContentTypeIfEmpty": False,
                "jsonSchema": {"type": "string"},
            },
        }
    ]  # fmt: skip
    assert services["Obj"]["ingressPrivate"] is True
    shared = services["Obj"]["handlers"][0]
    assert (shared["ty"], services["Obj"]["enableLazyState"]) == ("SHARED", True)
    assert (shared["input"], shared["output"]) == ({}, {})
    main = services["Wf"]["handlers"][0]
    assert (main["ty"], main["workflowCompletionRetention"]) == ("WORKFLOW", 259_200_000)
    assert "idempotencyRetention" not in main


@pytest.mark.parametrize(
    ("version", "lost"),
    [
        (
            1,
            ["Svc/greet: idempotencyRetention", "Obj: ingressPrivate", "Wf/run: workflowCompletionRetention"],
        ),
        (3, ["Svc/greet: retryPolicyMaxAttempts", "Svc/greet: retryPolicyOnMaxAttempts"]),
    ],
)
async def test_a_server_that_cannot_be_told_of_an_option_is_refused(version: int, lost: list[str]):
    """A private service must not become public because a server is old."""
    answer = await ask(Endpoint([svc, obj, wf]), "/discover", accept=MANIFEST.format(version))
    assert answer.status_code == 501
    assert f"manifests up to v{version}" in answer.text
    for one in lost:
        assert one in answer.text


@pytest.mark.parametrize("version", [1, 2, 3])
async def test_an_older_server_gets_the_fields_it_knows(version: int):
    answer = await ask(Endpoint([plain]), "/discover", accept=MANIFEST.format(version))
    assert answer.headers["content-type"] == MANIFEST.format(version)
    text = json.dumps(answer.json())
    assert ("metadata" in text) == (version >= 2)


@pytest.mark.parametrize("accept", ["", "*/*", "application/json", MANIFEST.format(9)])
async def test_without_a_manifest_both_know_discovery_is_refused(accept: str):
    assert (await ask(Endpoint([svc]), "/discover", accept=accept)).status_code == 415


async def test_what_is_not_there_is_not_found_and_health_is_always_there():
    app = Endpoint([svc])
    assert (await ask(app, "/invoke/Svc/nothing")).status_code == 404
    assert (await ask(app, "/invoke/Svc/greet")).status_code == 404  # GET
    assert (await ask(app, "/")).status_code == 404
    assert (await ask(app, "/health")).status_code == 200


@pytest.mark.parametrize("kind", ["application/json", "application/vnd.restate.invocation.v4", "…v6"])
async def test_a_version_nobody_speaks_here_is_415(kind: str):
    transport = httpx.ASGITransport(Endpoint([svc]))
    async with httpx.AsyncClient(transport=transport, base_url="http://endpoint") as client:
        headers = {"content-type": kind.replace("…", "application/vnd.restate.invocation.x")}
        assert (await client.post("/invoke/Svc/greet", headers=headers)).status_code == 415


async def test_it_can_be_mounted_under_a_path():
    outer = Starlette(routes=[Mount("/agents", Endpoint([svc]))])
    assert (await ask(outer, "/agents/discover", accept=ALL)).status_code == 200


def pem(key: Any) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


async def test_only_the_server_whose_key_is_known_may_call(monkeypatch: pytest.MonkeyPatch):
    signer, other = Signer(pem(Ed25519PrivateKey.generate())), Signer(pem(Ed25519PrivateKey.generate()))
    app = Endpoint([svc], identity_keys=[signer.public_key])

    async def status(headers: dict[str, str]) -> int:
        return (await ask(app, "/discover", accept=ALL, **headers)).status_code

    good = signer.headers("/discover")
    assert await status(good) == 200
    assert await status({}) == 401
    assert await status(other.headers("/discover")) == 401
    assert await status(signer.headers("/invoke/Svc/greet")) == 401  # for another path
    token = good["x-restate-jwt-v1"]
    assert await status({**good, "x-restate-jwt-v1": token[:-4] + "AAAA"}) == 401
    assert await status({**good, "x-restate-jwt-v1": "a.b"}) == 401
    assert await status({**good, "x-restate-jwt-v1": "!.!.!"}) == 401
    assert await status({**good, "x-restate-signature-scheme": "unsigned"}) == 401
    monkeypatch.setattr("agentdur.wire.identity.time.time", lambda: 4_000_000_000.0)
    assert await status(good) == 401  # long ago
    assert (await ask(app, "/health")).status_code == 200


def test_keys_that_cannot_be_used_are_told_apart():
    for key in ("ssh-ed25519 AAAA", "publickeyv1_0OIl", "publickeyv1_abc"):
        with pytest.raises(BadIdentityKey):
            Verifier(key)
    for text in (b"no key", pem(X25519PrivateKey.generate())):
        with pytest.raises(BadIdentityKey):
            Signer(text)
