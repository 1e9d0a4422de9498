"""`agentdur demo chat` as a person meets it: in a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
PATIENCE_S = 90.0
_STYLE = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]")


class Tty:
    """A terminal, and what is shown in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shown = ""
        self.begin()

    def begin(self) -> None:
        self._end, other = pty.openpty()
        environment = {**os.environ, "AGENTDUR_DEMO_MODEL": "scripted", "TERM": "xterm", "COLUMNS": "100"}
        command = [sys.executable, "-m", "agentdur.cli", "demo", "chat"]
        self.process = subprocess.Popen(
            command, stdin=other, stdout=other, stderr=other, cwd=self.folder, env=environment,
            start_new_session=True,
        )  # fmt: skip
        os.close(other)

    def type(self, line: str) -> None:
        os.write(self._end, line.encode() + b"\n")

    def until(self, text: str, times: int = 1) -> None:
        """Wait until the text was shown so often since the last `forget`."""
        deadline = time.monotonic() + PATIENCE_S
        while self.shown.count(text) < times:
            assert time.monotonic() < deadline, f"no {text!r} in {self.shown!r}"
            if select.select([self._end], [], [], 0.1)[0]:
                try:
                    data = os.read(self._end, 65536)
                except OSError:
                    assert self.shown.count(text) >= times, f"it ended without {text!r}: {self.shown!r}"
                    return
                self.shown += _STYLE.sub(b"", data).replace(b"\r", b"").decode("utf-8", "replace")

    def forget(self) -> None:
        self.shown = ""

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._end)

    def left(self) -> int:
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def tty(tmp_path: Path) -> Iterator[Tty]:
    pytest.importorskip("litellm")
    made = Tty(tmp_path)
    made.until("you> ")
    yield made
    if made.process.poll() is None:
        made.kill()


def test_a_person_talks_approves_and_leaves(tty: Tty):
    assert "a scripted model" in tty.shown
    tty.type("where is my order?")
    tty.until("Order 7 has left the warehouse.")
    tty.until("model calls")
    tty.type("I want a refund")
    tty.until("approve?")
    tty.type("y")
    tty.until("25.00 euros for order 7")
    tty.until("That is settled.")
    tty.type("/history")
    tty.until("user: I want a refund")
    tty.type("/quit")
    assert tty.left() == 0


@pytest.mark.parametrize(("answers", "told"), [(["n", "too much"], "too much"), (
    ["e", "{broken", '{"number": 7, "euros": 5}'], "5.00 euros for order 7")])  # fmt: skip
def test_a_person_rejects_or_edits(tty: Tty, answers: list[str], told: str):
    tty.type("refund!")
    tty.until("approve?")
    for answer in answers:
        tty.type(answer)
    tty.until(told, 2 if told in answers else 1)
    tty.until("That is settled.")
    tty.type("/quit")
    assert tty.left() == 0


def test_killed_while_it_asks_it_asks_again(tty: Tty):
    tty.type("refund!")
    tty.until("approve?")
    tty.kill()
    tty.forget()
    tty.begin()
    tty.until("An answer was under way")
    tty.until("approve?")
    tty.type("y")
    tty.until("That is settled.")
    tty.type("/quit")
    assert tty.left() == 0
