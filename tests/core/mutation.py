"""A copy of the core with one rule broken, and whether its tests notice."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
CORE = ROOT / "agentdur" / "core"
STORIES = ROOT / "tests" / "core"
SECONDS_MAX = 60

# The copy must be what is tested: the checkout may be installed, or be the current folder, as well.
PROLOGUE = """
from pathlib import Path

import agentdur.core

assert Path(agentdur.core.__file__).is_relative_to(Path(__file__).parent), agentdur.core.__file__
"""


class Mutation(NamedTuple):
    """`old` occurs once in agentdur/core/`file` and becomes `new`; tests/core/test_`tests`.py must notice."""

    name: str
    file: str
    tests: str
    old: str
    new: str


def copy_core(folder: Path) -> Path:
    """Copy the core and what its stories are built with; the copied core's folder."""
    copy = folder / "agentdur" / "core"
    shutil.copytree(CORE, copy)  # compiled files come along, so that only the broken one is compiled
    (folder / "agentdur" / "__init__.py").touch()
    (folder / "tests" / "core").mkdir(parents=True)
    shutil.copy(STORIES / "builders.py", folder / "tests" / "core")
    (folder / "conftest.py").write_text(PROLOGUE)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider\n")
    return copy


def break_rule(core: Path, mutation: Mutation) -> None:
    """Apply the mutation to a copied core."""
    path = core / mutation.file
    source = path.read_text(encoding="utf-8")
    assert source.count(mutation.old) == 1, f"{mutation.file} has not this once: {mutation.old}"
    path.write_text(source.replace(mutation.old, mutation.new), encoding="utf-8")


def run_stories(folder: Path, stories: list[str]) -> subprocess.CompletedProcess[str]:
    """Tell these stories of the copied core, up to the first that is not true."""
    files = [shutil.copy(STORIES / f"test_{each}.py", folder / "tests" / "core") for each in stories]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("COV")},  # not measured
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_ADDOPTS": "",
    }
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--assert=plain", *files],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
