"""Runs that an earlier version began are ended by today's: what their journals hold is neither asked nor done
again. The files were recorded by `python -m tests.released.record`, and are never changed.

Red here means that running agents would break with the next release: change the code, not the file.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from agentdur.core.ports import Filter
from agentdur.stores import SqliteStore
from tests.released.desks import DID
from tests.released.playing import last_turn, play_to_the_end, scripted, turns
from tests.released.record import JOURNALS, written
from tests.released.rows import aged, read_rows, write_rows
from tests.released.stories import STORIES
from tests.support.stage import Stage, check_journal

DAYS = 60
FILES = sorted(JOURNALS.glob("*/*.json"))


def release(package: str) -> tuple[int, ...]:
    """The first two numbers of the version that is installed."""
    return tuple(int(part) for part in version(package).split(".")[:2])


def _kept(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def test_every_story_was_recorded() -> None:
    """Whoever adds one is told to run `python -m tests.released.record`."""
    assert {path.stem for path in FILES} == set(STORIES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_file_is_the_database_that_was_recorded(path: Path, tmp_path: Path) -> None:
    kept = _kept(path)
    write_rows(tmp_path / "a.db", kept)
    assert read_rows(tmp_path / "a.db") == kept
    assert written(kept) == path.read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
async def test_what_an_earlier_version_began_is_ended(path: Path, tmp_path: Path) -> None:
    """Two months later: the model is asked for its last answer only, with what it was told before.
    No tool runs again."""
    story = STORIES[path.stem]
    if release(story.needs[0]) < story.needs[1]:
        pytest.skip(f"{story.needs[0]} {version(story.needs[0])} cannot read what a newer one has written")
    stage = Stage("sqlite", tmp_path)
    write_rows(stage.path, aged(_kept(path), DAYS))
    stage.store = SqliteStore(str(stage.path))
    async with scripted() as llm:
        answer: dict[str, Any] = await play_to_the_end(stage, llm, story)
        assert {name: answer[name] for name in story.answer} == story.answer
        assert turns(llm) == [last_turn(story)]
        (body,) = llm.bodies()
    told = json.dumps(body, ensure_ascii=False)
    assert [words for words in story.told if words not in told] == []
    assert "sun" not in told
    assert not DID
    for row in await stage.engine.list(Filter()):
        check_journal(stage.journal(row["id"]), row["status"] == "completed")
    await stage.close()
