"""The file under a SQLite store: who may use it, how it is opened, and what its errors mean.

Rules of this file:
1. Every sqlite3.Error becomes a StoreError here (`told`), nowhere else.
2. One process at a time: `<file>.lock` is locked for as long as the store is open. The operating system lets
   go of it when the process ends, however it ends. The lock file stays; a lock on a removed file protects
   nothing.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from typing import ClassVar
from urllib.parse import quote

import msgspec

from agentdur.core.errors import (
    StoreCorrupt,
    StoreError,
    StoreFailed,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
)

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOG_BYTES_KEPT_MAX = 64 * 1024 * 1024
"""How much of the disk a write-ahead log keeps after a burst."""
LOG_PAGES_MAX = 8000
"""When the log is copied into the file: 32 MiB. The later, the more often a page is written before it is
copied once; each copy holds up the commits behind it."""

_ERRORS: dict[int, type[StoreError]] = {
    sqlite3.SQLITE_FULL: StoreFull,
    sqlite3.SQLITE_READONLY: StoreReadOnly,
    sqlite3.SQLITE_PERM: StoreReadOnly,
    sqlite3.SQLITE_CANTOPEN: StoreReadOnly,
    sqlite3.SQLITE_CORRUPT: StoreCorrupt,
    sqlite3.SQLITE_NOTADB: StoreCorrupt,
    sqlite3.SQLITE_BUSY: StoreLocked,
    sqlite3.SQLITE_LOCKED: StoreLocked,
}
_OS_ERRORS: dict[int, type[StoreError]] = {
    errno.ENOSPC: StoreFull,
    errno.EDQUOT: StoreFull,
    errno.EACCES: StoreReadOnly,
    errno.EPERM: StoreReadOnly,
    errno.EROFS: StoreReadOnly,
}

FAILURES = (sqlite3.Error, OSError, msgspec.MsgspecError, UnicodeError, OverflowError)
"""Errors of the database and of the system, and values that cannot be stored."""


def told(error: Exception, path: str) -> StoreError:
    """The StoreError for one of FAILURES; it names the file."""
    match error:
        case sqlite3.Error():
            return _of_sqlite(error, path)
        case FileNotFoundError():
            return StoreFailed(f"{path}: there is no folder {os.path.dirname(path)}")
        case OSError():
            kind = _OS_ERRORS.get(error.errno or 0, StoreFailed)
            return kind(f"{path}: {error.strerror or error}")
        case _:
            return StoreFailed(f"{path}: a value cannot be stored: {error}")


def _of_sqlite(error: sqlite3.Error, path: str) -> StoreError:
    code = getattr(error, "sqlite_errorcode", None)
    primary = -1 if code is None else code & 0xFF
    kind = _ERRORS.get(primary, StoreFailed)
    if primary == sqlite3.SQLITE_IOERR and not _free(path):
        kind = StoreFull  # not every failed write says why
    if primary == sqlite3.SQLITE_CANTOPEN and os.path.isdir(path):
        kind = StoreFailed
    if code is None and "UTF-8" in str(error):
        kind = StoreCorrupt  # what we wrote was text
    name = getattr(error, "sqlite_errorname", None)
    return kind(f"{path}: {error}" + (f" ({name})" if name else ""))


def _free(path: str) -> int:
    """Bytes that may still be written beside the file."""
    try:
        space = os.statvfs(os.path.dirname(path))
    except (OSError, AttributeError):
        return 1  # unknown: not proven full
    return space.f_bavail * space.f_frsize


def require_writable(path: str) -> None:
    """StoreReadOnly for a file that is there and may not be written.

    SQLite would open it for reading, and leave a log beside it that may not be written either.
    """
    effective = os.access in os.supports_effective_ids
    if os.path.isfile(path) and not os.access(path, os.W_OK, effective_ids=effective):
        raise StoreReadOnly(path)


def file_identity(path: str) -> tuple[int, int] | None:
    """(device, inode), None when there is no such file."""
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    return stat.st_dev, stat.st_ino


def connect(path: str) -> sqlite3.Connection:
    """A connection in autocommit mode; the caller keeps to one thread at a time."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=5.0, cached_statements=256
    )
    try:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute("pragma temp_store = memory")
        connection.execute(f"pragma journal_size_limit = {LOG_BYTES_KEPT_MAX}")
        connection.execute(f"pragma wal_autocheckpoint = {LOG_PAGES_MAX}")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_to_read(path: str) -> sqlite3.Connection:
    """A connection that cannot write the file, in autocommit mode."""
    return sqlite3.connect(
        f"file:{quote(path)}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )


class FileLock:
    """`<file>.lock`: held by one store of one process at a time; holds the process's number."""

    _held: ClassVar[set[tuple[int, int]]] = set()
    """By (device, inode): the system's lock does not keep a process from itself."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file: int | None = None
        self._identity = (0, 0)

    def take(self) -> None:
        """StoreLocked when another store has it."""
        # A process loses its lock when it closes *any* descriptor of the file: look before opening.
        if os.path.exists(self.path) and self._identify(os.stat(self.path)) in self._held:
            raise StoreLocked(f"{self.path[: -len('.lock')]} is open in this process already")
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _lock(file)
        except (BlockingIOError, PermissionError) as error:
            holder = os.read(file, 32).decode("ascii", "replace").strip()
            os.close(file)
            raise StoreLocked(f"{self.path[: -len('.lock')]} is open in process {holder or '?'}") from error
        except BaseException:
            os.close(file)
            raise
        self._file, self._identity = file, self._identify(os.fstat(file))
        self._held.add(self._identity)
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another store have it."""
        if self._file is not None:
            self._held.discard(self._identity)
            os.close(self._file)
            self._file = None

    @staticmethod
    def _identify(stat: os.stat_result) -> tuple[int, int]:
        return stat.st_dev, stat.st_ino


if sys.platform == "win32":

    def _lock(file: int) -> None:
        os.lseek(file, 1 << 20, os.SEEK_SET)  # beyond the number, so that others may read it
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        os.lseek(file, 0, os.SEEK_SET)

else:

    def _lock(file: int) -> None:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
