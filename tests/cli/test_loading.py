"""Finding the App a command was asked to serve."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentdur.cli.loading import find, load_app
from agentdur.core.errors import AppNotFound, BadDefinition

AGENT = """
from agentdur import App, Service
greeter = Service("Greeter")

@greeter.handler()
async def greet(ctx, name: str) -> str:
    return name
"""


@pytest.fixture(autouse=True)
def own_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules of one story are not there in the next."""
    before = dict(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in set(sys.modules) - set(before):
        del sys.modules[name]


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def refusal(target: str | Path) -> str:
    with pytest.raises(AppNotFound) as caught:
        load_app(str(target))
    return caught.value.detail


def test_a_file_with_one_app_needs_no_name(tmp_path: Path):
    file = written(tmp_path / "agent_one.py", AGENT + "the_app = App([greeter])")
    assert [service.name for service in load_app(str(file)).services] == ["Greeter"]


def test_an_app_can_be_named_also_with_dots(tmp_path: Path):
    file = written(
        tmp_path / "agent_two.py",
        AGENT + "one = App([greeter])\ntwo = App([])\nclass Shop:\n    app = App([greeter])\n",
    )
    assert load_app(f"{file}:two").services == []
    assert len(load_app(f"{file}:Shop.app").services) == 1


def test_the_one_called_app_is_taken_when_there_are_several(tmp_path: Path):
    file = written(tmp_path / "agent_three.py", AGENT + "other = App([greeter])\napp = App([])")
    assert load_app(str(file)).services == []


def test_a_file_may_import_its_neighbours(tmp_path: Path):
    written(tmp_path / "neighbour_of_four.py", AGENT)
    file = written(
        tmp_path / "agent_four.py",
        "from neighbour_of_four import greeter\nfrom agentdur import App\napp = App([greeter])",
    )
    assert len(load_app(str(file)).services) == 1


def test_a_file_of_a_package_is_imported_as_part_of_it(tmp_path: Path):
    written(tmp_path / "shop_five/__init__.py", "")
    written(tmp_path / "shop_five/services.py", AGENT)
    file = written(
        tmp_path / "shop_five/main.py",
        "from .services import greeter\nfrom agentdur import App\napp = App([greeter])",
    )
    assert find(str(file))[:2] == (tmp_path, "shop_five.main")
    assert len(load_app(str(file)).services) == 1


def test_a_module_is_found_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written(tmp_path / "shop_six/__init__.py", AGENT + "app = App([greeter])")
    monkeypatch.chdir(tmp_path)
    assert len(load_app("shop_six").services) == 1
    assert len(load_app("shop_six:app").services) == 1
    assert "there is no module shop_seven" in refusal("shop_seven.agents")


# Not found


def test_a_file_that_is_not_there_is_told_with_those_that_are(tmp_path: Path):
    written(tmp_path / "agent.py", "")
    detail = refusal(tmp_path / "agnet.py")
    assert "there is no file" in detail
    assert "agent.py" in detail


def test_a_folder_is_no_app(tmp_path: Path):
    assert "is a folder" in refusal(tmp_path)


@pytest.mark.parametrize("target", ["a b", "a-b", "--", "a/b"])
def test_what_is_neither_a_file_nor_a_module_is_said_to_be_so(target: str):
    assert "neither a file nor a module name" in refusal(target)


def test_services_without_an_app_are_told_how_to_make_one(tmp_path: Path):
    file = written(tmp_path / "agent_eight.py", AGENT)
    assert "app = App([greeter])" in refusal(file)


def test_an_empty_file_has_nothing(tmp_path: Path):
    assert "no App and no services" in refusal(written(tmp_path / "agent_nine.py", ""))


def test_several_apps_must_be_chosen_from(tmp_path: Path):
    file = written(tmp_path / "agent_ten.py", AGENT + "one = App([greeter])\ntwo = App([])")
    assert "its Apps are one, two" in refusal(file)
    assert "has no three; its Apps are one, two" in refusal(f"{file}:three")
    assert "is a Service, not an App" in refusal(f"{file}:greeter")


# Broken


def test_an_error_of_the_module_is_told_with_its_line(tmp_path: Path):
    file = written(tmp_path / "agent_eleven.py", "x = 1\ny = nothing\n")
    assert f"NameError: name 'nothing' is not defined ({file}, line 2)" in refusal(file)


def test_a_syntax_error_is_told_with_its_line(tmp_path: Path):
    file = written(tmp_path / "agent_twelve.py", "x = 1\ndef (\n")
    assert f"({file}, line 2)" in refusal(file)


def test_a_missing_dependency_is_not_a_missing_app(tmp_path: Path):
    file = written(tmp_path / "agent_thirteen.py", "import no_such_library\n")
    assert "No module named 'no_such_library'" in refusal(file)


def test_a_mistake_in_a_declaration_speaks_for_itself(tmp_path: Path):
    file = written(tmp_path / "agent_fourteen.py", AGENT + "Service('restate')")
    with pytest.raises(BadDefinition, match="reserved"):
        load_app(str(file))
