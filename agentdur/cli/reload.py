"""Serving with reload: a child process serves, this one looks at the files and replaces it on a change.

Rules of this file:
1. The child is told to stop as an operator would (SIGTERM), so that it drains; only then a new one starts.
   What it was doing is durable, and the next one goes on with it.
2. A child that ends by itself is not restarted in a loop: the next change of a file starts it again.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

LOOK_EVERY_S = 0.3
SETTLE_S = 0.1
"""Files that do not change for this long have been written."""
FILES_MAX = 10_000
"""Files that are watched; a folder with more is watched in part."""
STOP_TIMEOUT_S = 30.0
"""A child that has not drained by then is killed."""
SKIPPED = frozenset({"__pycache__", "node_modules", "venv", "site-packages"})

Stamps = dict[Path, tuple[int, int]]


def serve_and_reload(arguments: list[str], folder: Path, say: Callable[[str], None]) -> int:
    """Run `agentdur serve` with these arguments until interrupted; the exit code of the last child."""
    code = Supervisor([sys.executable, "-m", "agentdur.cli", "serve", *arguments], folder, say).run()
    return 0 if code == -signal.SIGTERM else code  # it was asked to end before it could listen to that


class Supervisor:
    """Keeps one process of `command` running against the files below `folder`, until told to stop."""

    def __init__(self, command: list[str], folder: Path, say: Callable[[str], None]) -> None:
        self._command, self._folder, self._say = command, folder, say
        self._stopping = False

    def run(self) -> int:
        """Until SIGINT or SIGTERM; the exit code of the last process."""
        handlers = {one: signal.signal(one, self._stop) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            return self._run()
        finally:
            for one, handler in handlers.items():
                signal.signal(one, handler)

    def _run(self) -> int:
        seen = stamps(self._folder)
        child = subprocess.Popen(self._command)
        told = False
        while not self._stopping:
            time.sleep(LOOK_EVERY_S)
            if child.poll() is not None and not told:
                self._say("waiting for a change")
                told = True
            now = stamps(self._folder)
            if now == seen:
                continue
            now = self._settled(now)
            self._say(f"{_changed(seen, now, self._folder)} changed, starting again")
            seen = now
            stop(child)
            child = subprocess.Popen(self._command)
            told = False
        return stop(child)

    def _settled(self, now: Stamps) -> Stamps:
        """The files when nobody writes them any more: one that is half written would be served half."""
        while not self._stopping:
            time.sleep(SETTLE_S)
            later = stamps(self._folder)
            if later == now:
                break
            now = later
        return now

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True


def stop(child: subprocess.Popen[bytes]) -> int:
    """Ask it to end, wait until it has; its exit code."""
    if child.poll() is None:
        child.terminate()
    try:
        return child.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def stamps(folder: Path) -> Stamps:
    """Time and size of every Python file below, except in hidden and foreign folders."""
    found: Stamps = {}
    for path in _python_files(folder):
        try:
            status = path.stat()
        except OSError:
            continue  # gone since it was listed
        found[path] = (status.st_mtime_ns, status.st_size)
        if len(found) >= FILES_MAX:
            break
    return found


def _python_files(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name in SKIPPED:
            continue
        if entry.suffix == ".py":
            yield entry
        elif entry.is_dir() and not entry.is_symlink():
            yield from _python_files(entry)


def _changed(before: Stamps, after: Stamps, folder: Path) -> str:
    different = sorted(before.items() ^ after.items())
    return str(different[0][0].relative_to(folder))
