"""The ledger: what reached the server, and what became of it.

Rules of this file:
1. A request is written down before anything of its answer leaves; its end is written once the last byte has
   left.
2. A line is one write to a file opened with O_APPEND, so a process killed between two lines leaves whole
   lines. There is no fsync: the ledger survives the death of processes, not of the machine.
3. One server writes a ledger at a time; the next one goes on counting where it stopped.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One line. A request has up to two of them with the same `seq`: received, and finished with its outcome.

    `outcome`: "answered", the name of the fault ("status_429", "hang", …), "client_gone", "no_turn",
    "bad_request" or "server_stopped". A request without a finished line is still open, or its server was
    killed.
    """

    seq: int
    event: Literal["received", "finished"]
    time_ms: int
    request_id: str
    turn: int | None
    model: str
    message_count: int
    messages_sha256: str
    stream: bool
    retry_count: int | None
    outcome: str | None = None


class Ledger:
    """An append-only list of entries, in a file when there is a path."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = Path(path) if path is not None else None
        self._entries: list[LedgerEntry] = []
        self._descriptor: int | None = None
        if self.path is not None:
            self._entries = list(read_ledger(self.path)) if self.path.exists() else []
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            _cut_torn_line(self._descriptor, self.path)
        self._last_seq = max((entry.seq for entry in self._entries), default=0)

    @property
    def entries(self) -> tuple[LedgerEntry, ...]:
        return tuple(self._entries)

    @property
    def last_seq(self) -> int:
        return self._last_seq

    def next_seq(self) -> int:
        self._last_seq += 1
        return self._last_seq

    def append(self, entry: LedgerEntry) -> None:
        """Keep the entry; when this returns, the file has it."""
        if self._descriptor is not None:
            line = msgspec.json.encode(entry) + b"\n"
            written = os.write(self._descriptor, line)
            if written != len(line):
                raise OSError(f"{self.path}: wrote {written} of {len(line)} bytes of a ledger line")
        self._entries.append(entry)

    def close(self) -> None:
        """Close the file; the entries stay readable. Closing twice is fine."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def read_ledger(path: str | os.PathLike[str]) -> tuple[LedgerEntry, ...]:
    """All whole lines of a ledger file, which may still be growing."""
    whole, _, _ = Path(path).read_bytes().rpartition(b"\n")
    return tuple(msgspec.json.decode(line, type=LedgerEntry) for line in whole.splitlines())


def requests(entries: Iterable[LedgerEntry]) -> Sequence[LedgerEntry]:
    """One entry per request in order of arrival: finished, or received while there is no other."""
    latest: dict[int, LedgerEntry] = {}
    for entry in entries:
        latest[entry.seq] = entry
    return tuple(latest.values())


def _cut_torn_line(descriptor: int, path: Path) -> None:
    """A machine that went down in mid-line leaves a piece of it; the next line must not join it."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole != len(content):
        os.ftruncate(descriptor, whole)
