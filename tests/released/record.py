"""Record this version's journals: `python -m tests.released.record [--beside NAME] [story…]`, from the root.

Done once for each release, and for each new story: `journals/<version>/<story>.json` is made for every story
that has none. What is there is never written again: it is what users have in their databases. `--beside`:
of other releases of frameworks, into `journals/<version>-NAME`: what they wrote is ended by newer ones.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from tests.released.playing import play_until_it_dies, scripted
from tests.released.rows import read_rows
from tests.released.stories import STORIES, Story
from tests.support.stage import Stage

JOURNALS = Path(__file__).parent / "journals"
ROOT = Path(__file__).parents[2]


async def recorded(story: Story) -> dict[str, Any]:
    """The database of a process that died in the middle of it."""
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage("sqlite", Path(folder))
        async with scripted() as llm:
            await play_until_it_dies(stage, llm, story)
        return read_rows(stage.path)


def written(kept: dict[str, Any]) -> str:
    """One row a line, so that a reader finds what a difference is about."""
    lines = [f'{{"schema": {kept["schema"]}, "rows": {{']
    tables = [
        f'"{name}": [\n' + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]"
        for name, rows in kept["rows"].items()
    ]
    return "\n".join([*lines, ",\n".join(tables), "}}"]) + "\n"


def main(names: list[str]) -> None:
    """Record what is missing of these stories, by default of all."""
    beside = ""
    if names[:1] == ["--beside"]:
        beside, names = f"-{names[1]}", names[2:]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    folder = JOURNALS / f"{version}{beside}"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or STORIES:
        path = folder / f"{name}.json"
        if path.exists():
            print(f"{path.relative_to(ROOT)} is there, and stays as it is")
            continue
        path.write_text(written(asyncio.run(recorded(STORIES[name]))), "utf-8")
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
