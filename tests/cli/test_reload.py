"""Watching files, and the demo: real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentdur.cli.demo import run_demo
from agentdur.cli.demo_agent import STEPS
from agentdur.cli.output import Exit
from agentdur.cli.reload import stamps, stop


def test_a_change_of_a_python_file_is_seen_and_of_nothing_else(tmp_path: Path):
    inside = tmp_path / "agents"
    hidden, cache = tmp_path / ".venv", tmp_path / "__pycache__"
    for folder in (inside, hidden, cache):
        folder.mkdir()
    file = inside / "one.py"
    file.write_text("1")
    before = stamps(tmp_path)
    assert set(before) == {file}
    for ignored in (tmp_path / "data.db", hidden / "x.py", cache / "y.py"):
        ignored.write_text("")
    assert stamps(tmp_path) == before
    file.write_text("22")
    assert stamps(tmp_path) != before
    file.unlink()
    assert stamps(tmp_path) == {}


def test_a_file_written_twice_in_one_instant_differs_by_its_size(tmp_path: Path):
    file = tmp_path / "one.py"
    file.write_text("1")
    before = stamps(tmp_path)
    time_ns = file.stat().st_mtime_ns
    file.write_text("22")
    os.utime(file, ns=(time_ns, time_ns))
    assert stamps(tmp_path) != before


def test_a_child_is_asked_to_end():
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()
    assert stop(child) != 0
    child.stdout.close()


SUPERVISED = """
import sys
from pathlib import Path
from agentdur.cli.reload import Supervisor
folder = Path(sys.argv[1])
child = [sys.executable, "-u", str(folder / "child.py")]
sys.exit(Supervisor(child, folder, lambda text: print(text, flush=True)).run())
"""


@pytest.mark.slow
def test_a_change_replaces_the_process_and_a_stop_reaches_it(tmp_path: Path):
    """Also a process that failed is started again by the next change, not before."""
    child = tmp_path / "child.py"
    child.write_text("import time; print('first up', flush=True); time.sleep(60)")
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as supervisor:
        assert supervisor.stdout is not None
        lines = iter(supervisor.stdout.readline, "")
        try:
            assert next(lines) == "first up\n"
            child.write_text("print('it fails', flush=True); raise SystemExit(1)")
            assert next(lines) == "child.py changed, starting again\n"
            assert next(lines) == "it fails\n"
            assert next(lines) == "waiting for a change\n"
            child.write_text("import time; print('up again', flush=True); time.sleep(60)")
            assert next(lines) == "child.py changed, starting again\n"
            assert next(lines) == "up again\n"
        finally:
            supervisor.terminate()
        assert list(lines) == []
    assert supervisor.returncode != 0  # the child's own: it knows no SIGTERM


@pytest.mark.slow
def test_the_demo_shows_that_finished_steps_are_not_done_again():
    told: list[str] = []
    assert run_demo(told.append) == Exit.OK
    begun = [line.strip(" …") for line in told if line.endswith("…")]
    assert begun == [*STEPS[:3], *STEPS[2:]]
    assert any("ended with: review" in line for line in told)
