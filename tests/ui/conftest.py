"""A browser, and the town it looks at. Skipped with a reason where there is no browser.

CHROMIUM: where it is (default: on the path); UI_SCREENSHOTS: a directory for pictures of each page;
AXE_CORE: axe.min.js of npm's axe-core (default: in node_modules).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.ui.world import Town, town

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome") or ""
PATIENCE_MS = 60_000


class View:
    """One page of the browser, and what went wrong in it."""

    def __init__(self, page: Any, town: Town) -> None:
        self.page, self.town = page, town
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("console", self._told)
        page.on("request", lambda request: self.requests.append(request.url))

    def _told(self, message: Any) -> None:
        if message.type == "error" and "status of 40" not in message.text:
            self.complaints.append(message.text)

    async def open(self, path: str) -> None:
        """A page of the UI; `{name}` is the id of a seeded run."""
        await self.page.goto(f"{self.town.url}/ui{path.format(**self.town.runs)}")

    async def sees(self, selector: str, text: str = "") -> Any:
        """Wait until it is there, with that text in it."""
        found = self.page.locator(selector)
        if text:
            found = found.filter(has_text=text)
        await found.first.wait_for()
        return found.first

    async def stop_polling(self) -> None:
        """From now on the page knows only what it is told: one that is hidden does not ask."""
        await self.page.evaluate("Object.defineProperty(document, 'hidden', {value: true})")

    async def picture(self, name: str) -> None:
        """Keep a picture, where pictures are kept."""
        folder = os.environ.get("UI_SCREENSHOTS")
        if folder:
            await self.page.screenshot(path=f"{folder}/{name}.png", full_page=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seeded() -> AsyncIterator[Town]:
    """The town with its runs, for all stories of a module."""
    pytest.importorskip("litellm")
    async with town() as made:
        await made.seed()
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Any]:
    """One for all stories of a module."""
    playwright = pytest.importorskip("playwright.async_api")
    if not CHROMIUM:
        pytest.skip("no chromium: apt-get install chromium, or CHROMIUM=/path/to/it")
    async with playwright.async_playwright() as running:
        made = await running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        await made.close()


@pytest_asyncio.fixture(loop_scope="module")
async def view(seeded: Town, browser: Any, request: pytest.FixtureRequest) -> AsyncIterator[View]:
    """A page of its own for each story; what it complained about is the story's failure."""
    how = getattr(request, "param", {})
    page = await browser.new_page(**{"viewport": {"width": 1380, "height": 900}, **how})
    made = View(page, seeded)
    yield made
    await page.close()
    assert made.complaints == []
