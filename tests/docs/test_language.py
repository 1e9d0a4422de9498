"""The project speaks of itself alone: nobody's machine and no package registry is named in it.

Patterns are spelled with a class of one letter and samples in two pieces: this file passes its own test.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FOREIGN = {
    "a folder of one machine": re.compile(
        r"(?<![\w./-])/((w[o]rk|Us[e]rs|h[o]me)/\w|r[o]ot\b|tmp/b[a]sh|tmp/br[i]ef|opt/wh[e]els)"
    ),
    "a package registry": re.compile(
        r"\b(pyp[i]\.org|pythonh[o]sted\.org|npmj[s]\.(org|com)|yarnp[k]g\.com|crat[e]s\.io|rubyg[e]ms\.org"
        r"|pr[o]xy\.golang\.org|m[a]ven\.org|UV_IND[E]X|PIP_IND[E]X|extra-ind[e]x-url|ind[e]x-url)"
    ),
    "a signature of a tool": re.compile(
        r"(?i)co-auth[o]red-by|\bgenerat[e]d (with|by) \[?(claude|chatgpt|copilot)"
    ),
}


def foreign_words(text: str) -> list[str]:
    return [
        f"{number}: {what}: {line.strip()[:80]}"
        for number, line in enumerate(text.splitlines(), start=1)
        for what, pattern in FOREIGN.items()
        if pattern.search(line)
    ]


def tracked_files() -> list[Path]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what is tracked cannot be known")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def readable(path: Path) -> str:
    """The text of the file; a picture or an archive has none."""
    content = path.read_bytes()
    return "" if b"\0" in content else content.decode("utf-8")


def test_no_tracked_file_names_a_machine_or_a_registry():
    files = tracked_files()
    assert ROOT / "pyproject.toml" in files
    complaints = [
        f"{path.relative_to(ROOT)}:{complaint}"
        for path in files
        for complaint in foreign_words(readable(path))
    ]
    assert complaints == []


@pytest.mark.parametrize(
    "planted",
    [
        "see /wo" + "rk/main/agentdur",
        'path = "/ro' + 'ot/.cache"',
        "cd /ho" + "me/someone/agentdur",
        "cp -r /Us" + "ers/someone .",
        "log in /tmp/ba" + "sh_jobs.0/1",
        "https://pyp" + "i.org/simple",
        "https://files.pythonho" + "sted.org/packages",
        "https://registry.npm" + "js.org/left-pad",
        "export UV_IN" + "DEX=https://mirror.example",
        "Co-Au" + "thored-By: someone",
    ],
)
def test_a_planted_word_is_seen(planted: str):
    assert len(foreign_words(f"first line\n{planted}\n")) == 1


@pytest.mark.parametrize(
    "innocent",
    [
        "docs/work/plan.md",
        "the work/life balance",
        "/api/home/",
        "a workflow at /workflows/run",
        "/tmp",
        "the root/ folder",
    ],
)
def test_an_innocent_word_is_let_through(innocent: str):
    assert foreign_words(innocent) == []
