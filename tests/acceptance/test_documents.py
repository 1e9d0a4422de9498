"""docs/how-to/embed.md: its programs, run."""

from __future__ import annotations

import asyncio
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from agentdur.cli import main
from tests.acceptance.server import ROOT

PAGE = (ROOT / "docs" / "how-to" / "embed.md").read_text(encoding="utf-8")
OPERATE = (ROOT / "docs" / "how-to" / "operate.md").read_text(encoding="utf-8")


def program(name: str, folder: Path) -> ModuleType:
    """The file of that name that the page shows, imported."""
    found = re.search(
        rf"<!-- file: {re.escape(name)} -->\n```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE
    )
    assert found is not None
    (folder / name).write_text(found[1], encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"shown_{Path(name).stem}", folder / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


async def test_the_program_with_the_app_mounted(tmp_path: Path):
    web = program("web.py", tmp_path).web
    transport = httpx.ASGITransport(app=web)
    async with (
        web.router.lifespan_context(web),
        httpx.AsyncClient(transport=transport, base_url="http://host") as client,
    ):
        assert (await client.post("/agents/Greeter/greet", json="Ada")).json() == "hello Ada"
        assert (await client.get("/greet/Ada")).json() == "hello Ada"


def test_the_script(tmp_path: Path):
    shown = program("script.py", tmp_path)
    assert [asyncio.run(shown.main()) for _ in range(2)] == ["hello Ada"] * 2


def test_the_lines_that_deserve_an_alarm_are_said_in_these_words():
    """The page quotes the log; so does the code that writes it."""
    told = (ROOT / "agentdur" / "runtime" / "told.py").read_text(encoding="utf-8")
    for words in ("the next one is in", "paused, until", "the store is tried again in", "the store is back",
                  "stopped while %d attempts ran"):  # fmt: skip
        assert words in told
        assert words.replace("%d", "2") in OPERATE


def test_the_settings_it_names_exist(capsys: pytest.CaptureFixture[str]):
    assert main(["config"]) == 0
    known = capsys.readouterr().out
    for name in re.findall(r"`((?:shutdown|log)-[a-z]+)", OPERATE):
        assert f"{name} " in known
