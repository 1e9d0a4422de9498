"""The layer contracts of pyproject.toml hold, and each of them can be broken."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = """
import sys
from importlinter.cli import lint_imports
sys.exit(lint_imports(no_cache=True, no_logo=True))
"""


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LINT], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def skeleton(tmp_path: Path) -> Path:
    """Our settings over our packages, all of them empty."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "agentdur").mkdir()
    (tmp_path / "agentdur/__init__.py").touch()
    for package in (ROOT / "agentdur").glob("*/__init__.py"):
        copy = tmp_path / "agentdur" / package.parent.name
        copy.mkdir()
        (copy / "__init__.py").touch()
    return tmp_path


def test_our_imports_keep_the_contracts():
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Contracts: 4 kept, 0 broken." in result.stdout


def test_an_empty_skeleton_keeps_the_contracts(skeleton: Path):
    """So that what the planted violations below show is theirs alone."""
    result = lint_imports(skeleton)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("contract", "file", "line"),
    [
        ("Imports point down", "core/rule.py", "import agentdur.runtime"),
        pytest.param(
            "Imports point down", "ingress/route.py", "import agentdur.admin", marks=pytest.mark.slow
        ),
        pytest.param("Imports point down", "unplaced/__init__.py", "", marks=pytest.mark.slow),
        ("The core does no I/O and has no clock", "core/rule.py", "import time"),
        pytest.param(
            "The core does no I/O and has no clock",
            "core/rule.py",
            "from pydantic import BaseModel",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "The engine knows no agents", "runtime/engine.py", "import agentdur.llm", marks=pytest.mark.slow
        ),
        ("Frontends reach storage through the engine", "ingress/route.py", "import agentdur.stores"),
        pytest.param(
            "Frontends reach storage through the engine",
            "admin/query.py",
            "import sqlite3",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_planted_violation_breaks_its_contract(skeleton: Path, contract: str, file: str, line: str):
    planted = skeleton / "agentdur" / file
    planted.parent.mkdir(exist_ok=True)
    planted.write_text(line + "\n")
    result = lint_imports(skeleton)
    assert result.returncode == 1
    assert f"{contract} BROKEN" in result.stdout, result.stdout + result.stderr
