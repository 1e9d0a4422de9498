"""Approvals over HTTP: listed, decided, refused; signed links; webhooks that are told."""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI, Request, Response

from agentdur import App, Context, Service
from agentdur.approvals.http import BODY_BYTES_MAX
from agentdur.approvals.links import Claim, token_for
from agentdur.client import Client
from agentdur.config import Settings
from agentdur.core.errors import ApprovalDecided, ApprovalForged, UnknownApproval
from agentdur.ingress.app import create_ingress
from agentdur.server.frontends import guests_of
from agentdur.server.parts import ingress_settings
from tests.http.serving import just, served
from tests.support.stage import until, until_it_is

KEY = "k" * 32
desk = Service("Desk")


@desk.handler()
async def refund(ctx: Context, order: dict[str, Any]) -> dict[str, Any]:
    said = await ctx.approval(f"Refund {order['euros']} €?", order, notify=order.get("tell"))
    return {"ok": said.approved, "by": said.by, "reason": said.reason, "payload": said.payload}


class World:
    """An app that runs, and its ingress."""

    def __init__(self, app: App, engine: Any, http: httpx.AsyncClient) -> None:
        self.app, self.engine, self.http = app, engine, http
        self.client = Client("http://desk", http=http)

    async def ask(self, **more: Any) -> tuple[dict[str, Any], str]:
        """A question and the id of who asks."""
        sent = await self.client.service_send(refund, {"euros": 40, **more})
        found: list[Any] = []

        async def there() -> bool:
            listed = (await self.http.get("/approvals")).json()["approvals"]
            found[:] = [one for one in listed if one["invocation"] == sent.invocation_id]
            return bool(found)

        await until_it_is(there, True)
        return found[0], sent.invocation_id


@pytest.fixture
async def world() -> AsyncIterator[World]:
    app = App([desk], store="memory://")
    settings = Settings(approval_link_key=KEY, public_url="http://desk")
    async with app.running(settings=settings) as engine:
        ingress = create_ingress(engine, ingress_settings(settings), guests_of(app, engine))
        transport = httpx.ASGITransport(ingress)
        async with httpx.AsyncClient(transport=transport, base_url="http://desk") as http:
            yield World(app, engine, http)


async def test_a_question_is_listed_shown_and_approved(world: World):
    question, asker = await world.ask()
    assert (question["question"], question["payload"]) == ("Refund 40 €?", {"euros": 40})
    assert (question["status"], question["service"], question["approved"]) == ("pending", "Desk", None)
    assert (await world.http.get(f"/approvals/{question['id']}")).json() == question
    body = {"digest": question["digest"], "by": "ada", "reason": "a good customer"}
    answer = await world.http.post(f"/approvals/{question['id']}/approve", json=body)
    assert answer.status_code == 200
    decided = answer.json()
    assert (decided["status"], decided["by"]) == ("approved", "ada")
    assert await world.client.attach(asker, refund) == {
        "ok": True, "by": "ada", "reason": "a good customer", "payload": {"euros": 40},
    }  # fmt: skip
    assert (await world.http.get("/approvals")).json() == {"approvals": []}
    assert (await world.http.get("/approvals?status=decided&service=Desk")).json()["approvals"] == [decided]


async def test_an_edit_is_an_approval_with_another_payload(world: World):
    question, asker = await world.ask()
    body = {"digest": question["digest"], "payload": {"euros": 20}}
    answer = await world.http.post(f"/approvals/{question['id']}/approve", json=body)
    assert (answer.json()["edited"], answer.json()["edited_payload"]) == (True, {"euros": 20})
    assert (await world.client.attach(asker, refund))["payload"] == {"euros": 20}


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("apr_none/approve", {"digest": "x"}, 404, "AD0122"),
        ("{id}/approve", {"digest": "x"}, 403, "AD0121"),
        ("{id}/reject", {"digest": "x"}, 403, "AD0121"),
        ("{id}/approve", {}, 400, "AD0020"),
        ("{id}/approve", {"digest": "{digest}", "Payload": 1}, 400, "AD0020"),
        ("{id}/approve", [], 400, "AD0020"),
        ("{id}/reject", {"digest": "{digest}", "payload": 1}, 400, "AD0020"),
        ("{id}/approve", {"digest": "{digest}", "by": 7}, 400, "AD0020"),
        ("{id}/approve", {"digest": "x" * BODY_BYTES_MAX}, 400, "AD0020"),
    ],
)
async def test_what_is_wrong_is_said_and_changes_nothing(
    world: World, path: str, body: Any, status: int, code: str
):
    question, _ = await world.ask()
    if isinstance(body, dict) and body.get("digest") == "{digest}":
        body = body | {"digest": question["digest"]}
    answer = await world.http.post(f"/approvals/{path.replace('{id}', question['id'])}", json=body)
    assert (answer.status_code, answer.json()["error"], answer.json()["code"]) == (status, code, status)
    assert (await world.http.get("/approvals")).json()["approvals"] == [question]


async def test_no_json_is_no_decision(world: World):
    question, _ = await world.ask()
    answer = await world.http.post(f"/approvals/{question['id']}/approve", content=b"{")
    assert (answer.status_code, answer.json()["error"]) == (400, "AD0020")


async def test_a_second_decision_is_told_of_the_first(world: World):
    question, _ = await world.ask()
    body = {"digest": question["digest"], "by": "ada"}
    first = await world.http.post(f"/approvals/{question['id']}/reject", json=body)
    second = await world.http.post(f"/approvals/{question['id']}/approve", json=body | {"by": "eve"})
    assert (second.status_code, second.json()["error"]) == (409, "AD0120")
    assert second.json()["approval"] == first.json()


async def test_the_client_speaks_of_approvals_in_types(world: World):
    question, asker = await world.ask()
    client = world.client
    (record,) = await client.approvals()
    assert (record.id, record.digest) == (question["id"], question["digest"])
    assert await client.approval(record.id) == record
    with pytest.raises(ApprovalForged):
        await client.approve(record.id, "x")
    decided = await client.approve(record.id, record.digest, by="ada", payload=None)
    assert (decided.edited, decided.edited_payload) == (True, None)
    with pytest.raises(ApprovalDecided) as late:
        await client.reject(record.id, record.digest)
    assert late.value.record == decided == await world.engine.client().approval(record.id)
    with pytest.raises(UnknownApproval):
        await client.approval("apr_none")
    assert (await client.attach(asker, refund))["payload"] is None


async def test_pages_lead_to_each_other(world: World):
    ids = [(await world.ask())[0]["id"] for _ in range(3)]
    first = (await world.http.get("/approvals?limit=2")).json()
    assert [one["id"] for one in first["approvals"]] == ids[:2]
    rest = (await world.http.get("/approvals", params={"after": first["after"]})).json()
    assert [one["id"] for one in rest["approvals"]] == ids[2:]
    for wrong in ("limit=0", "limit=100000", "status=maybe"):
        assert (await world.http.get(f"/approvals?{wrong}")).status_code == 422


async def test_agentdur_s_own_services_do_not_exist_from_outside(world: World):
    assert (await world.http.get("/restate/health")).json() == {"services": ["Desk"]}
    for path in ("/agentdur.Approval/x/decide", "/restate/call/agentdur.Secret/approval-links/get"):
        assert (await world.http.post(path, json={})).status_code == 404
    assert "agentdur." not in (await world.http.get("/restate/openapi")).text
    assert (await world.http.get("/restate/openapi/agentdur.Approval")).status_code == 404


# Links


def link(question: dict[str, Any], choice: Any, seconds: float = 60, **other: str) -> str:
    until = int(datetime.now(UTC).timestamp() + seconds)
    claim = Claim(choice, other.get("digest", question["digest"]), until)
    token = token_for(other.get("key", KEY), other.get("id", question["id"]), claim)
    return f"/approvals/{question['id']}/link/{token}"


async def test_a_link_shows_the_question_and_decides_only_by_its_button(world: World):
    """Scanners follow links; a person presses the button, and may say who they are."""
    question, asker = await world.ask(note="<script>alert(1)</script>")
    path = link(question, "reject")
    page = await world.http.get(path)
    assert page.status_code == 200
    assert "Refund 40 €?" in page.text and "<button>Reject</button>" in page.text
    assert "<script>" not in page.text and "&lt;script&gt;" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert (await world.http.get("/approvals")).json()["approvals"] == [question]
    done = await world.http.post(path, data={"by": "Ada L.", "reason": "über budget"})
    assert done.status_code == 200 and "rejected by Ada L." in done.text
    assert (await world.client.attach(asker, refund))["reason"] == "über budget"


async def test_a_link_works_once(world: World):
    question, asker = await world.ask()
    assert (await world.http.post(link(question, "approve"))).status_code == 200
    for path in (link(question, "approve"), link(question, "reject")):
        again = await world.http.post(path)
        assert again.status_code == 409
        assert "Nothing was changed" in again.text and "approved by link" in again.text
        assert "<button>" not in (await world.http.get(path)).text
    assert (await world.client.attach(asker, refund))["by"] == "link"


@pytest.mark.parametrize(
    ("how", "status", "code"),
    [
        ({"key": "another"}, 403, "AD0121"),
        ({"id": "apr_other"}, 403, "AD0121"),
        ({"digest": "another"}, 403, "AD0121"),
        ({"seconds": -1}, 410, "AD0123"),
    ],
)
async def test_a_link_that_was_not_made_for_this_does_nothing(
    world: World, how: dict[str, Any], status: int, code: str
):
    question, _ = await world.ask()
    path = link(question, "approve", **how)
    for answer in (await world.http.get(path), await world.http.post(path)):
        assert answer.status_code == status and code in answer.text
    assert (await world.http.get("/approvals")).json()["approvals"] == [question]


@pytest.mark.slow
async def test_no_character_of_a_link_can_be_changed(world: World):
    question, _ = await world.ask()
    path = link(question, "approve")
    start = path.index("/link/") + len("/link/")
    for at in range(start, len(path)):
        for other in "AB_-":
            if other != path[at]:
                answer = await world.http.post(path[:at] + other + path[at + 1 :])
                assert answer.status_code == 403, (at, other)
    assert (await world.http.post(path[:-4])).status_code == 403
    assert (await world.http.get("/approvals")).json()["approvals"] == [question]


# Webhooks


class Receiver:
    """A server that is told of questions; it refuses the first few times."""

    def __init__(self, *refusals: int) -> None:
        self.refusals = list(refusals)
        self.notices: list[dict[str, Any]] = []
        self.requests = 0
        self.app = FastAPI()
        self.app.post("/told")(self.told)

    async def told(self, request: Request) -> Response:
        self.requests += 1
        body = await request.body()
        mac = hmac.digest(KEY.encode(), body, "sha256").hex()
        assert request.headers["agentdur-signature"] == f"sha256={mac}"
        if self.refusals:
            return Response(status_code=self.refusals.pop(0))
        self.notices.append(await request.json() | {"key": request.headers["idempotency-key"]})
        return Response()


@pytest.mark.slow
async def test_a_webhook_is_told_with_links_and_its_links_decide(world: World):
    receiver = Receiver(503)
    with served(lambda: just(receiver.app)) as port:
        question, asker = await world.ask(tell=f"http://127.0.0.1:{port}/told")
        await until(lambda: receiver.notices, "the notice")
    (notice,) = receiver.notices
    assert receiver.requests == 2
    assert (notice["event"], notice["approval"], notice["key"]) == (
        "approval.asked",
        question,
        question["id"],
    )
    assert notice["links"]["reject"].startswith("http://desk/approvals/")
    done = await world.http.post(urlsplit(notice["links"]["approve"]).path)
    assert done.status_code == 200
    assert (await world.client.attach(asker, refund))["ok"] is True


@pytest.mark.slow
async def test_a_webhook_that_refuses_for_good_is_left_alone(world: World):
    """The question stays where it can be seen."""
    receiver = Receiver(410, 410)
    with served(lambda: just(receiver.app)) as port:
        question, _ = await world.ask(tell=[f"http://127.0.0.1:{port}/told"])
        await until(lambda: receiver.requests, "the refusal")
        await asyncio.sleep(0.1)
    assert receiver.requests == 1
    assert (await world.http.get("/approvals")).json()["approvals"] == [question]


async def test_the_setting_s_webhook_is_told_unless_the_question_names_others():
    receiver = Receiver()
    app = App([desk], store="memory://")
    with served(lambda: just(receiver.app)) as port:
        settings = Settings(
            approval_webhook=f"http://127.0.0.1:{port}/told", approval_link_key=KEY, public_url="http://desk",
            approval_retention=timedelta(hours=1),
        )  # fmt: skip
        async with app.running(settings=settings) as engine:
            await engine.client().service_send(refund, {"euros": 1, "tell": []})
            await engine.client().service_send(refund, {"euros": 2})
            await until(lambda: receiver.notices, "the notice")
            assert app.approvals.retention == timedelta(hours=1)
    assert [notice["approval"]["payload"]["euros"] for notice in receiver.notices] == [2]


async def test_without_a_key_one_is_made_and_kept(tmp_path: Any):
    """A link from before a restart works after it."""
    store = f"sqlite:///{tmp_path}/a.db"
    seen: list[dict[str, Any]] = []
    receiver = FastAPI()

    @receiver.post("/told")
    async def told(request: Request) -> Response:
        seen.append(await request.json())
        return Response()

    with served(lambda: just(receiver)) as port:
        async with App([desk]).running(store) as engine:
            order = {"euros": 1, "tell": f"http://127.0.0.1:{port}/told"}
            sent = await engine.client().service_send(refund, order)
            await until(lambda: seen, "the notice")
    path = seen[0]["links"]["approve"]
    assert re.fullmatch(r"/approvals/apr_\w{26}/link/[\w.-]+", path)
    app = App([desk])
    async with app.running(store) as engine:
        transport = httpx.ASGITransport(create_ingress(engine, guests=guests_of(app, engine)))
        async with httpx.AsyncClient(transport=transport, base_url="http://desk") as http:
            assert (await http.post(path)).status_code == 200
        assert (await engine.client().attach(sent.invocation_id, refund))["ok"] is True
