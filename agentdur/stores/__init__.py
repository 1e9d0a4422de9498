"""Where committed state lives: one schema, several stores."""

from __future__ import annotations

from agentdur.core.errors import BadStoreUrl
from agentdur.core.ports import Store
from agentdur.stores.memory import MemoryStore
from agentdur.stores.sqlite import SqliteStore

__all__ = ["MemoryStore", "SqliteStore", "open_store"]

_SQLITE = "sqlite:///"


def open_store(url: str) -> Store:
    """The store at `url`: `sqlite:///relative.db`, `sqlite:////absolute.db` or `memory://`, open."""
    store = _store(url)
    store.open()
    return store


def _store(url: str) -> Store:
    if url == "memory://":
        return MemoryStore()
    path = url.removeprefix(_SQLITE)
    if path == url or not path or path.endswith("/") or "?" in path or "\0" in path or path == ":memory:":
        raise BadStoreUrl(url)
    return SqliteStore(path)
