"""A page with `useChat`: npm's `ai` under node, told what to do."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.stage import PATIENCE_SECONDS

AI_SDK = os.environ.get("AI_SDK", "")
"""A folder in which `npm install ai@6` was run."""
needs_ai_sdk = pytest.mark.skipif(
    shutil.which("node") is None or not AI_SDK, reason="needs node, and AI_SDK: a folder with npm's ai@6"
)
_CLIENT = Path(__file__).with_name("ui_client.mjs")


class Page:
    """What a person at the page sees, and what they may do."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[dict[str, Any]] = []
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self.lines.append(json.loads(line))

    async def close(self) -> None:
        self._process.kill()
        await self._process.wait()
        await self._reading

    def do(self, what: str, **how: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, **how}).encode() + b"\n")

    async def did(self, what: str, **how: Any) -> dict[str, Any]:
        """Do it, and wait until it is done."""
        before = self.count(what)
        self.do(what, **how)
        await self.until(lambda: self.count(what) > before, what)
        return next(line for line in reversed(self.lines) if line.get("done") == what)

    def count(self, what: str) -> int:
        return sum(line.get("done") == what for line in self.lines)

    async def until(self, condition: Callable[[], Any], what: str = "it") -> None:
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while not condition():
            assert asyncio.get_running_loop().time() < deadline, f"{what}: {self.lines[-3:]}"
            await asyncio.sleep(0.005)

    @property
    def status(self) -> str:
        return next((line["status"] for line in reversed(self.lines) if "status" in line), "")

    @property
    def messages(self) -> list[dict[str, Any]]:
        return next((line["messages"] for line in reversed(self.lines) if "messages" in line), [])

    @property
    def error(self) -> str:
        lines = [line for line in self.lines if "status" in line and "done" not in line]
        return lines[-1].get("error") or ""

    def text(self) -> str:
        """The text of the last message."""
        parts = self.messages[-1]["parts"] if self.messages else []
        return "".join(part["text"] for part in parts if part["type"] == "text")

    def parts(self, kind: str) -> list[dict[str, Any]]:
        """The parts of the last message that are of this kind."""
        return [part for part in self.messages[-1]["parts"] if part["type"] == kind]


@asynccontextmanager
async def page(api: str, key: str = "s", messages: Any = ()) -> AsyncIterator[Page]:
    """Open a page that talks to `api`."""
    process = await asyncio.create_subprocess_exec(
        "node", str(_CLIENT), AI_SDK, api, key, json.dumps(list(messages)),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 24,
    )  # fmt: skip
    made = Page(process)
    try:
        await made.until(lambda: made.lines, "the page")
        yield made
    finally:
        await made.close()
