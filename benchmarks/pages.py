"""How long the web UI's pages take on a store of a million invocations, by the browser's own clock.

    python -m benchmarks.pages [--count 1000000] [--file FILE] [--dir DIR] [--rounds 5]

The file is filled as `benchmarks.sql` does (and kept with `--file`), then served as `agentdur serve` does.
The time of a page runs from the navigation, with an empty cache, to its first rows; beside it is the slowest
answer of the admin API. Needs playwright, and a browser (CHROMIUM, or chromium on the path).
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from contextlib import ExitStack
from typing import Any

from playwright.sync_api import sync_playwright

from benchmarks import servers
from benchmarks.sql import fill, filled, options, sample

REQUESTS = """() => performance.getEntriesByType('resource')
    .filter(r => !r.name.includes('/ui/')).map(r => r.duration)"""
WAIT_MS = 60_000


class Filled(servers.Agentdur):
    """Serves a file that is there."""

    def __init__(self, directory: str, path: str) -> None:
        self._path = path
        super().__init__(directory)

    def settings(self) -> list[str]:
        """Its store; nothing in it is to be swept away meanwhile."""
        return [f"store=sqlite:///{self._path}", "cleanup_interval=1d"]


def pages(id: str) -> dict[str, tuple[str, str]]:
    """By name: the address, and what is on it when it is there."""
    return {
        "list, newest first": ("/invocations", "tbody tr"),
        "list of a service": ("/invocations?service=Mail", "tbody tr"),
        "list of failed ones": ("/invocations?status=failed", "tbody tr"),
        "list of paused ones": ("/invocations?status=paused", "tbody tr"),
        "a run": (f"/invocations/{id}", ".step"),
        "overview": ("/", "main h1, main h2"),
    }


def opened(browser: Any, url: str, selector: str) -> tuple[float, float]:
    """(until the page has its rows, the slowest request of it), ms."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(url, wait_until="commit")
    page.wait_for_selector(selector, timeout=WAIT_MS)
    took = page.evaluate("performance.now()")
    slowest = max(page.evaluate(REQUESTS), default=0.0)
    context.close()
    return took, slowest


def main() -> None:
    """Fill, unless the file is there, and measure."""
    given = options(__doc__, 1_000_000).parse_args()
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with ExitStack() as stack:
        path = stack.enter_context(filled(given, fill))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        asked = pages(sample(path)[0])
        server = Filled(folder, path)
        stack.callback(server.stop)
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        stack.callback(browser.close)
        print(f"{'ms: median, worst of ' + str(given.rounds):28} {'page':>17}   {'slowest request':>17}")
        for name, (address, selector) in asked.items():
            url = f"http://127.0.0.1:{server.admin}/ui{address}"
            found = [opened(browser, url, selector) for _ in range(given.rounds)]
            cells = [f"{statistics.median(t):8.1f} {max(t):8.1f}" for t in zip(*found, strict=True)]
            print(f"{name:28} {'   '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
