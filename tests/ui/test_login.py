"""Signing in: a real browser at a server that asks who looks, and what each role sees there."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from agentdur.config import Settings
from agentdur.core.access import written_token
from agentdur.server.frontends import admin_of
from agentdur.ui.app import STATIC
from tests.support.serving import served
from tests.ui.world import Town

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

TOKENS = {role: f"adt_{role}_0123456789abcdef" for role in ("viewer", "operator", "admin")}
SECRETS = ("weekend in Bergen", "Lovelace", "showers", "raincoat", "Opus XVI", 'balance": ', "clerk")
"""What handlers, models and people were told and said in the town."""
PAGES = {
    "/": ".gauges",
    "/invocations": "tbody tr",
    "/invocations/{trip}": ".step[data-type=output]",
    "/invocations/{trip}?view=agents": ".agenttree tbody tr",
    "/invocations/{waiting}": "article.approval",
    "/invocations/{retrying}": ".note.retrying",
    "/approvals": "article.approval",
    "/approvals?status=decided": "article.approval p.small",
    "/approvals/{asked}": "article.approval",
    "/sessions": "tbody tr",
    "/sessions/support/ada": ".transcript .message",
    "/compare?a={trip}&b={trip2}": ".pairrow",
    "/objects": "tbody tr",
    "/objects/Ledger/acme": "[aria-label='edit balance']",
    "/invocations/{closing}": ".note.suspended",
    "/search?q=Bergen": ".findings li, .empty",
    "/sql?q=SELECT id FROM sys_invocation": "tbody tr, .empty",
    "/services": "article.card",
    "/services/Claims?handler=pay": "fieldset",
    "/deployments": ".plainlist a",
    "/deployments/{deployment}": ".plainlist code",
}
"""Each page, and what is there when it has got all that it asks for."""
ACTS = {
    "operator": ".approval .row > button, .actions button, .note.suspended button,"
    " button:text('New session'), button:text('Forget…'), button:text-is('Start')",
    "admin": "td.right button, button:text('Add…'), button:text('Clear…')",
}
"""What takes which role."""


class Gate:
    """The town behind a door; `sign_in` opens a page as somebody."""

    def __init__(self, url: str, browser: Any) -> None:
        self.url, self._browser = url, browser
        self.refused: list[str] = []

    async def sign_in(self, role: str) -> Any:
        """A page whose browser has the cookie."""
        page = await self._browser.new_page()
        page.set_default_timeout(10_000)
        page.on("response", self._answered)
        given = await page.request.post(f"{self.url}/login", data={"token": TOKENS[role]})
        assert given.ok
        return page

    def _answered(self, response: Any) -> None:
        if response.status >= 400:
            self.refused.append(f"{response.status} {response.request.method} {response.url}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate(seeded: Town, browser: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gate]:
    file = tmp_path_factory.mktemp("access") / "access.toml"
    file.write_text("".join(written_token(role, role, token) for role, token in TOKENS.items()))
    settings = Settings(access_file=str(file))
    admin: Any = admin_of(seeded.app, seeded.engine, settings, "http://x/", loopback=True)
    async with served(admin) as url:
        yield Gate(url, browser)


async def test_the_walk_leaves_no_page_out():
    pages = re.findall(r'^  \["(/[^"]*)", \w+Page\],$', (STATIC / "app.js").read_text(), re.MULTILINE)
    assert len(pages) > 12
    walked = [path.partition("?")[0] for path in PAGES]
    fits = {page: re.compile(re.sub(r":\w+", "[^/]+", page)).fullmatch for page in pages}
    assert [page for page, fit in fits.items() if not any(map(fit, walked))] == []


@pytest.mark.parametrize("role", TOKENS)
async def test_each_role_sees_every_page_without_being_refused(gate: Gate, seeded: Town, role: str):
    """What it may not do cannot be pressed, and says why; what it may not see is said to be hidden."""
    gate.refused.clear()
    page = await gate.sign_in(role)
    ranks = list(TOKENS)
    await page.goto(f"{gate.url}/ui/services")
    hidden, looked_at = 0, set[str]()
    asked, served_at = (
        (await seeded.http.get("/approvals")).json(),
        (await seeded.http.get("/deployments")).json(),
    )
    names = {"asked": asked["approvals"][0]["id"], "deployment": served_at["deployments"][0]["id"]}
    for path, there in PAGES.items():
        await page.evaluate(
            "(path) => { history.pushState(null, '', path); dispatchEvent(new PopStateEvent('popstate')); }",
            "/ui" + path.format(**seeded.runs, **names),
        )
        await page.locator(f"main :is({there})").first.wait_for()
        shown = await page.locator("main").inner_text()
        assert await page.locator("main [role=alert]").count() == 0, (path, shown)
        if role == "viewer":
            assert not [secret for secret in SECRETS if secret in shown], path
        hidden += shown.count("hidden (")
        for least, buttons in ACTS.items():
            may = ranks.index(role) >= ranks.index(least)
            for name, disabled, title in (
                await page.locator("main")
                .locator(buttons)
                .evaluate_all("all => all.map((one) => [one.innerText, one.disabled, one.title])")
            ):
                looked_at.add(name)
                assert disabled != may, (path, name)
                assert may or f"yours is {role}" in title, (path, name)
    assert gate.refused == []
    assert looked_at >= {"Approve", "Resolve…", "Retry now", "Restart as new", "Start", "Delete…", "Add…"}
    assert (hidden > 20) == (role == "viewer"), hidden
    await page.close()


async def test_who_signs_in_sees_what_he_may_and_signs_out(gate: Gate, seeded: Town, browser: Any):
    page = await browser.new_page()
    page.set_default_timeout(10_000)
    await page.goto(f"{gate.url}/ui/invocations/{seeded.runs['trip']}")
    await page.fill("input[name=token]", "adt_nobody_0123456789abcdef")
    await page.click("button.primary")
    await page.wait_for_selector("[role=alert]")
    await page.fill("input[name=token]", TOKENS["viewer"])
    await page.click("button.primary")
    await page.wait_for_selector(".step")
    assert "weekend in Bergen" not in await page.content()
    assert "agentdur_session" not in await page.evaluate("document.cookie")
    assert TOKENS["viewer"] not in await page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})")
    await page.click("text=Sign out")
    await page.wait_for_selector("input[name=token]")
    await page.reload()
    await page.wait_for_selector("input[name=token]")
    await page.close()
