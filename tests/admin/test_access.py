"""Access at the admin port: no route without a role, no act or payload without the right."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount, compile_path

from agentdur import App, Context, Service
from agentdur.admin.app import create_admin
from agentdur.admin.rules import own_rules
from agentdur.admin.signed_in import SESSION_SECONDS, SESSIONS_MAX, Sessions
from agentdur.config import Settings
from agentdur.core.access import Access, Role, Rule, pattern_of, written_token
from agentdur.core.errors import NotSignedIn
from agentdur.sdk.client import EngineClient
from agentdur.server.access import GUEST_RULES, TokenFile
from agentdur.server.frontends import admin_of, ingress_of
from agentdur.sessions import chat
from tests.admin.conftest import quick, room, signup, wait, work
from tests.support.routes import every_route
from tests.support.stage import until_it_is

TOKENS = {role: f"adt_{role}_0123456789abcdef" for role in ("viewer", "operator", "admin")}
RULES = (*own_rules(Role.ADMIN), *GUEST_RULES)
SECRET = "the patient is called Ada"


async def talk(ctx: Any, messages: list[dict[str, Any]]) -> str:
    return "yes"


press = Service("Press")


@press.handler()
async def publish(ctx: Context) -> bool:
    return bool(await ctx.approval("Publish?", {"title": "News"}))


class Guarded:
    """A server with three tokens, as each of their owners sees it."""

    def __init__(self, admin: Starlette, ingress: Any, client: EngineClient) -> None:
        self.admin, self.client = admin, client
        self.callers = {
            role: httpx.AsyncClient(
                transport=httpx.ASGITransport(admin), base_url="http://localhost",
                headers={"authorization": f"Bearer {token}", "accept": "application/json"},
            )
            for role, token in TOKENS.items()
        }  # fmt: skip
        self.nobody = httpx.AsyncClient(transport=httpx.ASGITransport(admin), base_url="http://localhost")
        self.ingress = httpx.AsyncClient(transport=httpx.ASGITransport(ingress), base_url="http://localhost")


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    file = tmp_path / "access.toml"
    file.write_text("".join(written_token(role, role, token) for role, token in TOKENS.items()))
    app = App([work, room, signup, press, chat(talk, name="Parrot")])
    settings = Settings(access_file=str(file))
    async with app.running("memory://", settings=settings, expose_metrics=True) as engine:
        admin: Any = admin_of(app, engine, settings, "http://x/", loopback=True)
        yield Guarded(admin, ingress_of(app, engine, settings), EngineClient(engine))


def routes(app: Starlette) -> set[tuple[str, str]]:
    """(method, path) of all that is answered; what is mounted is asked by GET, whatever is below."""
    found = set()
    for route in every_route(app):
        if isinstance(getattr(route, "original_route", route), Mount):
            found.add(("GET", f"{route.path}/{{path:path}}"))
            continue
        found |= {(method, route.path) for method in route.methods or () if method != "HEAD"}
    return found


def undeclared(app: Starlette, rules: Iterable[Rule]) -> set[tuple[str, str]]:
    return routes(app) - {(rule.method, rule.path) for rule in rules}


async def test_every_route_has_a_role_and_every_rule_a_route(guarded: Guarded):
    assert len(routes(guarded.admin)) > 60
    assert undeclared(guarded.admin, RULES) == set()
    assert {(rule.method, rule.path) for rule in RULES} - routes(guarded.admin) == set()


async def test_a_route_without_a_role_is_noticed_and_is_the_admin_s_alone(guarded: Guarded):
    async def forgotten(request: Any) -> Response:
        return Response("done")

    guarded.admin.add_route("/forgotten", forgotten, ["POST"])
    assert undeclared(guarded.admin, RULES) == {("POST", "/forgotten")}
    answers = {role: (await one.post("/forgotten")).status_code for role, one in guarded.callers.items()}
    assert answers == {"viewer": 403, "operator": 403, "admin": 200}


def test_rules_are_read_as_the_router_reads_paths():
    samples = [
        "/invocations/a",
        "/invocations/a/b",
        "/invocations/",
        "/services/a b/state",
        "/ui/",
        "/ui/a/b",
    ]
    for rule in RULES:
        router, ours = compile_path(rule.path)[0], pattern_of(rule.path)
        for path in [*samples, rule.path, rule.path + "/", rule.path.replace("{", "").replace("}", "")]:
            assert bool(router.match(path)) == bool(ours.fullmatch(path)), (rule.path, path)


async def test_without_a_token_nothing_is_told_but_that_the_server_lives(guarded: Guarded):
    public = set()
    for method, path in routes(guarded.admin):
        for prefix in ("", "/v4"):
            given = await guarded.nobody.request(method, prefix + path.replace("{", "").replace("}", ""))
            if given.status_code != 401:
                public.add(path)
            else:
                assert given.headers["www-authenticate"] == "Bearer"
                assert given.headers["x-agentdur-error"] == "AD0232"
    assert public == {
        "/",
        "/health",
        "/whoami",
        "/login",
        "/logout",
        "/ui",
        "/ui/{path:path}",
        "/approvals/{id}/link/{token}",
    }


async def test_who_only_looks_changes_nothing_by_any_route(guarded: Guarded):
    may = {("POST", "/internal/services/{service}/serdes/decode/{name:path}")}
    for method, path in sorted(routes(guarded.admin)):
        if method == "GET" or (method, path) in may or "/link/" in path or path in ("/login", "/logout"):
            continue
        for version in ("", "/v3"):
            given = await guarded.callers["viewer"].request(
                method, version + path.replace("{", "").replace("}", "")
            )
            assert (given.status_code, given.headers["x-agentdur-error"]) == (403, "AD0233"), (method, path)


async def test_each_role_does_what_is_its_own(guarded: Guarded):
    sent = await guarded.client.service_send(wait)
    id, (viewer, operator, admin) = sent.invocation_id, guarded.callers.values()

    async def status() -> str:
        return str((await viewer.get(f"/invocations/{id}")).json()["status"])

    await until_it_is(status, "running")
    assert (await viewer.patch(f"/invocations/{id}/kill")).status_code == 403
    assert await status() == "running"
    assert (await operator.patch(f"/invocations/{id}/kill")).status_code == 200
    query = {"query": "SELECT id FROM sys_invocation"}
    state = {"object_key": "k", "new_state": {"n": "1"}}
    for path, body in (("/query", query), ("/services/Room/state", state)):
        refused = await operator.post(path, json=body)
        assert (refused.status_code, "operator is operator, not admin" in refused.json()["message"]) == (
            403,
            True,
        )
        assert (await admin.post(path, json=body)).status_code in (200, 202)


async def test_payloads_are_markers_for_who_may_not_see_them(guarded: Guarded):
    """In lists, in one run, in its rows, in one entry, in events; what cannot be marked is refused."""
    one, same = [await guarded.client.service_send(quick, SECRET) for _ in range(2)]
    for sent in (one, same):
        await guarded.client.attach(sent.invocation_id)
    viewer, operator = guarded.callers["viewer"], guarded.callers["operator"]
    paths = [
        "/invocations",
        *(f"/invocations/{one.invocation_id}{end}" for end in ("", "/rows", "/live", "/entries/0")),
    ]
    for path in paths:
        assert SECRET in (await operator.get(path)).text, path
        given = await viewer.get(path)
        assert (given.status_code, SECRET in given.text) == (200, False), path
        assert '"redacted":true' in given.text
    outputs = [one["output"] for one in (await viewer.get("/invocations")).json()["invocations"]]
    assert outputs[0] == outputs[1]
    assert outputs[0]["bytes"] == len(json.dumps(SECRET))
    for path in ("/search?q=patient", "/sessions/Parrot/ada/stream", "/conversations/x"):
        refused = await viewer.get(path)
        assert (refused.status_code, refused.headers["x-agentdur-error"]) == (403, "AD0234"), path
        assert (await operator.get(path)).status_code != 403


async def test_what_is_asked_said_and_kept_is_a_marker_too(guarded: Guarded):
    """Approvals at both ports, sessions with their messages and turns, state and promises of keys."""
    viewer, operator = guarded.callers["viewer"], guarded.callers["operator"]
    await guarded.client.service_send(publish)

    async def pending() -> int:
        return len((await operator.get("/approvals")).json()["approvals"])

    await until_it_is(pending, 1)
    said = await operator.post("/sessions/Parrot/ada/messages", json={"content": SECRET})
    assert said.status_code == 200
    state = {"object_key": "k", "new_state": {"patient": SECRET}}
    await guarded.callers["admin"].post("/services/Room/state", json=state)

    async def kept() -> bool:
        return SECRET in (await operator.get("/services/Room/state?object_key=k")).text

    await until_it_is(kept, True)
    (asked,) = (await operator.get("/approvals")).json()["approvals"]
    shows = {
        "/approvals": "Publish?", f"/approvals/{asked['id']}": "News", "/sessions": SECRET,
        "/sessions/Parrot/ada": SECRET, "/sessions/Parrot/ada/messages": SECRET,
        "/services/Room/state?object_key=k": SECRET,
    }  # fmt: skip
    for path, text in shows.items():
        given, seen = await viewer.get(path), await operator.get(path)
        assert (given.status_code, text in given.text, text in seen.text) == (200, False, True), path
        assert '"redacted":true' in given.text, path
        assert asked["digest"] not in given.text, "it could be guessed from"
    message = (await viewer.get("/sessions/Parrot/ada/messages")).json()["messages"][0]
    assert (message["role"], message["message"]["role"]) == ("user", "user")
    (turn,) = (await viewer.get("/sessions/Parrot/ada/turns")).json()["turns"]
    assert (turn["turn"], turn["status"]) == (1, "completed")
    as_viewer = {"authorization": f"Bearer {TOKENS['viewer']}"}
    there = await guarded.ingress.get("/approvals", headers=as_viewer)
    assert (there.status_code, "Publish?" in there.text) == (200, False)


async def test_approvals_ask_for_the_same_role_at_the_ingress(guarded: Guarded):
    """Links are keys of their own, handlers are called as ever."""
    for path, status in (("/approvals", 401), ("/approvals/x", 401), ("/%61pprovals", 400)):
        assert (await guarded.ingress.get(path)).status_code == status, path
    assert (await guarded.ingress.post("/approvals/x/approve", json={})).status_code == 401
    as_viewer = {"authorization": f"Bearer {TOKENS['viewer']}"}
    assert (await guarded.ingress.post("/approvals/x/approve", json={}, headers=as_viewer)).status_code == 403
    as_operator = {"authorization": f"Bearer {TOKENS['operator']}"}
    assert (await guarded.ingress.get("/approvals", headers=as_operator)).status_code == 200
    assert (await guarded.ingress.get("/approvals/x/link/y")).status_code not in (401, 200)
    assert (await guarded.ingress.post("/Work/step")).json() == "one"


async def test_a_browser_signs_in_for_a_cookie_that_is_no_token_and_signs_out(guarded: Guarded):
    http = guarded.nobody
    assert (await http.get("/whoami")).json() == {
        "asked": True, "name": None, "role": None, "payloads": False, "sql": False,
    }  # fmt: skip
    assert (await http.post("/login", json={"token": "adt_nobody_0123456789abcdef"})).status_code == 401
    assert "set-cookie" not in (await http.post("/login", json={"token": ""})).headers
    given = await http.post("/login", json={"token": TOKENS["operator"]})
    cookie = given.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert TOKENS["operator"] not in cookie
    assert (await http.get("/whoami")).json()["name"] == "operator"
    assert (await http.get("/services")).status_code == 200
    assert (await http.post("/query", json={"query": "SELECT 1"})).status_code == 403
    wrong = {"authorization": "Bearer nonsense"}
    assert (await http.get("/services", headers=wrong)).status_code == 401, "a token counts before a session"
    copied = {"cookie": cookie.partition(";")[0]}
    assert (await http.post("/logout")).status_code == 200
    assert (await http.get("/services")).status_code == 401
    assert (await http.get("/services", headers=copied)).status_code == 401, "also for a copy of the cookie"
    secure = await http.post(
        "/login", json={"token": TOKENS["viewer"]}, headers={"x-forwarded-proto": "https"}
    )  # fmt: skip
    assert "Secure" in secure.headers["set-cookie"]


async def test_without_tokens_nobody_signs_in(tmp_path: Path):
    async with App([work]).running("memory://") as engine:
        transport = httpx.ASGITransport(create_admin(engine))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            about = (await http.get("/whoami")).json()
            assert about == {
                "asked": False, "name": None, "role": None, "payloads": True, "sql": True,
            }  # fmt: skip
            assert (await http.post("/login", json={"token": TOKENS["admin"]})).status_code == 401


def test_a_session_ends_by_time_and_with_its_token(tmp_path: Path):
    now = [0.0]
    sessions = Sessions(lambda: now[0])
    file = tmp_path / "access.toml"
    file.write_text(written_token("a", "admin", TOKENS["admin"]))
    door = Access(TokenFile(str(file)).tokens, RULES, Role.OPERATOR, sessions.token_of)
    made = sessions.begin(sha256(TOKENS["admin"].encode()).digest())
    assert door.admit("GET", "/services", None, made).caller is not None
    file.write_text("")
    with pytest.raises(NotSignedIn):
        door.admit("GET", "/services", None, made)
    file.write_text(written_token("again", "admin", TOKENS["admin"]))
    assert door.admit("GET", "/services", None, made).caller is not None
    now[0] = SESSION_SECONDS
    with pytest.raises(NotSignedIn):
        door.admit("GET", "/services", None, made)
    ids = [sessions.begin(b"") for _ in range(SESSIONS_MAX + 1)]
    assert (sessions.token_of(ids[0]), sessions.token_of(ids[-1])) == (None, b"")


def test_a_token_is_taken_away_while_the_server_runs(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    file = tmp_path / "access.toml"
    kept, gone = TOKENS["admin"], TOKENS["viewer"]
    file.write_text(written_token("a", "admin", kept) + written_token("b", "viewer", gone))
    tokens = TokenFile(str(file))
    assert tokens.tokens().caller(gone)
    file.write_text(written_token("a", "admin", kept))
    assert tokens.tokens().caller(gone) is None
    file.write_text("broken =")
    assert tokens.tokens().caller(kept), "nobody is locked out by a slip of the pen"
    assert "AD0235" in caplog.text
    file.write_text(written_token("b", "viewer", gone))
    assert tokens.tokens().caller(kept) is None


async def test_the_log_says_who_did_what_and_who_was_refused(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", "agentdur.audit")
    sent = await guarded.client.service_send(wait)
    path = f"/invocations/{sent.invocation_id}/kill"
    await guarded.callers["viewer"].patch(path)
    await guarded.callers["operator"].patch(path)
    await guarded.callers["admin"].get("/invocations")
    await guarded.callers["admin"].post("/query", json={"query": "SELECT 1"})
    await guarded.nobody.post("/invocations/x%0Aforged/fork", json={})
    told = [record.getMessage() for record in caplog.records if record.name == "agentdur.audit"]
    assert told == [
        f"PATCH {path} by viewer: 403, viewer is viewer, not operator",
        f"PATCH {path} by operator: 200",
        "POST /invocations/x\\nforged/fork by nobody: 401, no token",
    ]
    assert caplog.records[-1].fields["code"] == "AD0232"
    assert not any(token in caplog.text for token in TOKENS.values())


async def test_who_decides_an_approval_is_the_owner_of_the_token_whatever_the_body_says(guarded: Guarded):
    sent = await guarded.client.service_send(publish)
    operator = guarded.callers["operator"]

    async def pending() -> int:
        return len((await operator.get("/approvals")).json()["approvals"])

    await until_it_is(pending, 1)
    (asked,) = (await operator.get("/approvals")).json()["approvals"]
    body = {"digest": asked["digest"], "by": "somebody else"}
    decided = await operator.post(f"/approvals/{asked['id']}/approve", json=body)
    assert (decided.status_code, decided.json()["by"]) == (200, "operator")
    assert await guarded.client.attach(sent.invocation_id)
