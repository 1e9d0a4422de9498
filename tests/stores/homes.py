"""Where a store under test lives, and how it is found again after its process has gone."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from agentdur.core.ports import Store, Writes
from agentdur.stores import MemoryStore, SqliteStore


class Home(Protocol):
    """One kind of store: add a class here and to HOMES, and every test of the suite runs on it."""

    store: Store

    def __init__(self, folder: Path) -> None: ...

    def reopen(self) -> None:
        """Close, forget everything in memory, open again."""


class MemoryHome:
    def __init__(self, folder: Path) -> None:
        self.store: Store = MemoryStore()
        self.store.open()

    def reopen(self) -> None:
        self.store.close()
        self.store.open()


class SqliteHome:
    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "agentdur.db")
        self.store: Store = SqliteStore(self.path)
        self.store.open()

    def reopen(self) -> None:
        self.store.close()
        self.store = SqliteStore(self.path)
        self.store.open()


HOMES: tuple[type[Home], ...] = (MemoryHome, SqliteHome)


def commit(store: Store, writes: Writes) -> None:
    """Prepare and commit at once."""
    store.commit(store.prepare(writes))
