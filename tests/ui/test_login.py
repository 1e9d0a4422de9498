"""Signing in: a real browser at a server that asks who looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentdur import App, Context, Service
from agentdur.config import Settings
from agentdur.core.access import written_token
from agentdur.server.frontends import admin_of
from tests.support.serving import served

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

TOKEN = "adt_viewer_0123456789abcdef"
SECRET = "the patient is called Ada"
desk = Service("Desk")


@desk.handler()
async def note(ctx: Context, text: str) -> str:
    return text


async def test_who_signs_in_sees_what_he_may_and_signs_out(browser: Any, tmp_path: Path):
    file = tmp_path / "access.toml"
    file.write_text(written_token("ada", "viewer", TOKEN))
    settings = Settings(access_file=str(file))
    app = App([desk])
    async with app.running("memory://", settings=settings) as engine:
        sent = await engine.client().service_send(note, SECRET)
        await engine.client().attach(sent.invocation_id)
        async with served(admin_of(app, engine, settings, "http://x/", loopback=True)) as url:
            page = await browser.new_page()
            page.set_default_timeout(10_000)
            await page.goto(f"{url}/ui/invocations/{sent.invocation_id}")
            await page.fill("input[name=token]", "adt_nobody_0123456789abcdef")
            await page.click("button.primary")
            await page.wait_for_selector("[role=alert]")
            await page.fill("input[name=token]", TOKEN)
            await page.click("button.primary")
            await page.wait_for_selector(".step")
            assert SECRET not in await page.content()
            assert "agentdur_session" not in await page.evaluate("document.cookie")
            assert TOKEN not in await page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})")
            await page.click("text=Sign out")
            await page.wait_for_selector("input[name=token]")
            await page.reload()
            await page.wait_for_selector("input[name=token]")
            await page.close()
