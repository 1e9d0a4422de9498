"""Fixtures for stories that hold with every store."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.stage import Stage

STORY_SECONDS_MAX = 60.0
"""A story that hangs is cancelled, so that the test that tells it fails and the next one begins."""


@pytest.fixture(params=["memory", "sqlite"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    """A store without history; what still runs at the end of the test is taken down."""
    made = Stage(request.param, tmp_path)
    watchdog = asyncio.get_running_loop().call_later(STORY_SECONDS_MAX, _cancel_story)
    yield made
    watchdog.cancel()
    await made.close()


def _cancel_story() -> None:
    for task in asyncio.all_tasks():
        name = getattr(task.get_coro(), "__name__", "")
        if name.startswith("test_"):
            task.cancel("the story hangs")


IN_MEMORY_AT_ONCE = pytest.mark.parametrize(
    "stage", ["memory", pytest.param("sqlite", marks=pytest.mark.slow)], indirect=True
)
"""For a story that is told once per commit of it: with a file it takes seconds, and is for `make test`."""
