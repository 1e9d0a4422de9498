"""`agentdur` in processes that start with everything imported: each is forked from one that has it.

To import a model client and the frameworks takes up to eight seconds of a processor, and a story that kills
processes starts many. Rules of this file:
1. What is forked runs the command as `python -m agentdur.cli` does, with arguments, environment, folder and
   log of its own; it is a process of its own and dies alone.
2. The process it is forked from imports and forks. It runs no loop and no thread, and ends with the test run;
   what it forked ends with it.
3. All that are forked have its hash seed. What must hold in a process with another one, a replay above all,
   is told somewhere by processes that start cold.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from agentdur.cli import main

ROOT = Path(__file__).resolve().parents[2]
ENDPOINT = ("hypercorn.asyncio",)
MODELS = (*ENDPOINT, "agentdur.llm", "agentdur.sessions")
FRAMEWORKS = (
    *MODELS, "agents", "google.adk.runners", "google.adk.models.lite_llm", "langchain.agents",
    "langchain_openai", "pydantic_ai.models.openai",
)  # fmt: skip


_ORDERING = threading.Lock()


class Process(Protocol):
    """What a story does to a process, whoever started it."""

    def send_signal(self, number: int, /) -> None:
        """To it alone."""

    def terminate(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """SIGKILL."""

    def wait(self, timeout: float | None = None) -> Any:
        """Until it is gone; subprocess.TimeoutExpired."""


class Forked:
    """A process that is not a child of this one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._gone = os.pidfd_open(pid)

    def send_signal(self, number: int, /) -> None:
        """To it alone."""
        if not self._over(0):
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> None:
        """Until it is gone; subprocess.TimeoutExpired."""
        if not self._over(timeout):
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)

    def _over(self, timeout: float | None) -> bool:
        return bool(select.select([self._gone], [], [], timeout)[0])

    def __del__(self) -> None:
        os.close(self._gone)


def start(
    arguments: Iterable[str],
    log: Any,
    environment: Mapping[str, str],
    *,
    folder: Path = ROOT,
    imported: Iterable[str] = ENDPOINT,
) -> Process:
    """`agentdur …`, writing to the file `log`. `imported`: what it is going to import; what cannot be
    imported is left to it. Where processes cannot be forked like this, it starts cold."""
    arguments = list(arguments)
    if sys.platform != "linux":
        command = [sys.executable, "-m", "agentdur.cli", *arguments]
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    log.flush()
    order = {
        "arguments": arguments, "environment": dict(environment), "folder": str(folder), "log": log.name,
        "imported": list(imported),
    }  # fmt: skip
    with _ORDERING:
        parent = _parent()
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write(json.dumps(order) + "\n")
        parent.stdin.flush()
        return Forked(int(parent.stdout.readline()))


@cache
def _parent() -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.support.warm"]
    pipe = subprocess.PIPE
    parent = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True, start_new_session=True)
    return parent


def end() -> None:
    """All that was started is over: the end of a test run."""
    if _parent.cache_info().currsize:
        parent = _parent()
        assert parent.stdin is not None
        parent.stdin.close()
        parent.wait()


# -- in the process that forks


def serve() -> dict[str, Any] | None:
    """Fork for each line, and answer the pid. Returns in each process that was forked, with what it is to be;
    and when nobody can order any more."""
    children: set[int] = set()

    def reap(*_: object) -> None:
        while children and (pid := os.waitpid(-1, os.WNOHANG)[0]):
            children.discard(pid)

    signal.signal(signal.SIGCHLD, reap)
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        for module in order["imported"]:
            try:
                import_module(module)
            except ImportError:
                continue  # an extra that is not there: whoever needs it says so
        gc.freeze()  # what is shared stays shared
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
            return order
        children.add(pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        print(pid, flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return None


def become(order: dict[str, Any]) -> None:
    """The command of the order, as if it had been started by it."""
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for mine, its in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(mine, its)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    sys.path[0] = order["folder"]
    sys.argv = ["agentdur", *order["arguments"]]
    sys.exit(main())


if __name__ == "__main__":
    wanted = serve()
    if wanted is not None:
        become(wanted)
