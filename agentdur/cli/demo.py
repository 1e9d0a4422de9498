"""`agentdur demo`: a real process with a real store, killed in the middle of a step, and started again."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from agentdur.cli.demo_agent import BEGINS, ENDS, STEPS
from agentdur.cli.output import Exit

KILL_AT = STEPS[2]
PROGRAM = "import sys; from agentdur.cli.demo_agent import start; start(sys.argv[1])"


CHAT = "import sys; from agentdur.cli.demo_chat import start; start(*sys.argv[1:])"


def run_chat(store: str, session: str) -> Exit:
    """A session in the terminal, in a process of its own: it imports what most commands do not need."""
    ended = subprocess.call([sys.executable, "-c", CHAT, store, session])
    return Exit.OK if ended == 0 else Exit.FAILURE


def run_demo(say: Callable[[str], None]) -> Exit:
    """Tell what happens as it happens; FAILURE when the agent did not come to its end."""
    with tempfile.TemporaryDirectory(prefix="agentdur-demo-") as folder:
        store = f"sqlite:///{Path(folder) / 'demo.db'}"
        ran: Counter[str] = Counter()
        say(f"An agent of {len(STEPS)} steps starts, its journal in {store}")
        _watch(store, ran, say, kill_at=KILL_AT)
        say(f"Its process was killed in the middle of {KILL_AT!r}. A new one starts on the same journal.")
        report = _watch(store, ran, say, kill_at=None)
        if report is None:
            say("It did not come to its end.")
            return Exit.FAILURE
        say(f"It ended with: {report}")
        for step in STEPS:
            times = "once" if ran[step] == 1 else f"{ran[step]} times"
            why = ": it was under way when the process died" if step == KILL_AT else ""
            say(f"  {step}: ran {times}{why}")
        say("What had finished was read from the journal, not done again.")
    return Exit.OK


def _watch(store: str, ran: Counter[str], say: Callable[[str], None], kill_at: str | None) -> str | None:
    """Run the agent's process to its end, or to the beginning of the step `kill_at`; what it reported."""
    command = [sys.executable, "-c", PROGRAM, store]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        try:
            for line in _lines(process):
                if line.startswith(ENDS):
                    process.wait()
                    return line.removeprefix(ENDS)
                step = line.removeprefix(BEGINS)
                ran[step] += 1
                say(f"  {step} …")
                if step == kill_at:
                    return None
        finally:
            process.kill()
    return None


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    return (line.strip() for line in process.stdout if line.startswith((BEGINS, ENDS)))
