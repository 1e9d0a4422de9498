"""What goes wrong with a file: each is told by its name, and nothing that was committed is lost."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentdur.core.errors import (
    BadStoreUrl,
    StoreCorrupt,
    StoreError,
    StoreFailed,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
    StoreTooNew,
)
from agentdur.core.journal import Input
from agentdur.core.ports import Filter, Writes
from agentdur.stores import MemoryStore, SqliteStore, open_store
from agentdur.stores.sqlite_file import told
from tests.stores.homes import commit
from tests.stores.samples import CART, T0, invocation_id, new

NOBODY = 65534
as_root = pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root on Linux")


def filled(number: int, size: int = 10) -> Writes:
    """One invocation with an input of this size."""
    writes = Writes()
    writes.invocations[number] = new(number)
    writes.journal = [(number, 0, Input(value=bytes(size)), T0)]
    return writes


def opened(path: Path, numbers: range = range(0)) -> SqliteStore:
    """A store with these invocations."""
    store = SqliteStore(str(path))
    store.open()
    for number in numbers:
        commit(store, filled(number))
    return store


def stored(path: Path) -> list[int]:
    """The numbers of all invocations that are there with their journal, seen by a fresh opening."""
    store = opened(path)
    try:
        found = [row.seq for row in store.running()]
        return [seq for seq in found if [index for index, _ in store.journal(seq)] == [0]]
    finally:
        store.close()


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may write anywhere: be nobody for a while."""
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        yield


@pytest.fixture
def common_folder() -> Iterator[Path]:
    """A folder that also nobody can reach."""
    with tempfile.TemporaryDirectory(dir=tempfile.gettempdir()) as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


# one process at a time


def test_a_second_store_on_the_file_is_refused(tmp_path: Path) -> None:
    """By any path that leads to it; when the first one lets go, the second may have it."""
    first = opened(tmp_path / "a.db", range(1, 2))
    (tmp_path / "link.db").symlink_to(tmp_path / "a.db")
    for name in ("a.db", "link.db"):
        with pytest.raises(StoreLocked, match=r"a\.db"):
            opened(tmp_path / name)
    commit(first, filled(2))
    first.close()
    assert stored(tmp_path / "link.db") == [1, 2]


def test_opening_what_is_open_and_closing_what_is_closed_changes_nothing(tmp_path: Path) -> None:
    store = opened(tmp_path / "a.db", range(1, 2))
    store.open()
    commit(store, filled(2))
    store.close()
    store.close()
    for refused in (store.next_seq, lambda: commit(store, filled(3))):
        with pytest.raises(StoreFailed, match="not open"):
            refused()
    assert stored(tmp_path / "a.db") == [1, 2]


HOLD = """
import sys, time
from agentdur.stores import open_store
store = open_store(sys.argv[1])
print("open", flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_another_process_is_refused_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with child(HOLD, f"sqlite:///{path}") as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "open\n"
        with pytest.raises(StoreLocked, match=f"process {holder.pid}"):
            opened(path)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    opened(path, range(1, 2)).close()


# crashes

COMMIT_FOREVER = """
import sys
from agentdur.core.ports import Timer, Writes
from agentdur.core.journal import Input
from agentdur.stores import open_store
from tests.stores.samples import CART, T0, invocation_id, new
store = open_store(sys.argv[1])
for number in range(store.next_seq(), 1_000_000):
    writes = Writes()
    writes.invocations[number] = new(number)
    writes.journal = [(number, index, Input(value=b"x" * 3000), T0) for index in range(3)]
    writes.values[(CART, "last")] = str(number).encode()
    writes.locks[CART] = invocation_id(number)
    writes.timers = {Timer(T0 + number, number, 1)}
    store.commit(store.prepare(writes))
    print(number, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_a_killed_process_leaves_whole_commits(tmp_path: Path, seed: int) -> None:
    """All that was acknowledged, at most one that was not, and nothing in halves; again after each kill."""
    path, chance = tmp_path / "a.db", random.Random(seed)
    for _ in range(3):
        with child(COMMIT_FOREVER, f"sqlite:///{path}") as writer:
            assert writer.stdout is not None and writer.stdout.readline()
            time.sleep(chance.random() * 0.3)
            writer.send_signal(signal.SIGKILL)
            acknowledged = writer.stdout.read().splitlines()
        whole(path, int(acknowledged[-1]) if acknowledged else 1)


def whole(path: Path, acknowledged: int) -> None:
    """The file holds exactly the commits up to `acknowledged`, or one more."""
    store = opened(path)
    numbers = [row.seq for row in store.running()]
    last = numbers[-1]
    assert last in (acknowledged, acknowledged + 1)
    assert numbers == list(range(1, last + 1))
    assert all([index for index, _ in store.journal(seq)] == [0, 1, 2] for seq in numbers)
    assert [timer.seq for timer in store.timers(last + 1)] == numbers
    assert store.values(CART) == {"last": str(last).encode()}
    lock = store.object(CART)
    assert lock is not None and lock.locked_by == invocation_id(last)
    store.close()


def test_a_commit_is_synced_before_it_is_acknowledged(tmp_path: Path) -> None:
    """A killed process does not show it, a power cut would: a log, synced at each commit (2: full)."""
    store = opened(tmp_path / "a.db")
    assert store._writer is not None
    modes = [
        store._writer.execute(f"pragma {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
    ]
    assert modes == ["wal", 2]
    store.close()


# files that cannot be written


def test_a_folder_that_cannot_be_written(common_folder: Path) -> None:
    folder = common_folder / "closed"
    folder.mkdir(mode=0o555)
    with unprivileged():
        opened(common_folder / "elsewhere.db").close()  # nobody can write beside it
        with pytest.raises(StoreReadOnly, match=r"a\.db"):
            opened(folder / "a.db")
    folder.chmod(0o755)


def test_a_file_that_cannot_be_written(common_folder: Path) -> None:
    path = common_folder / "a.db"
    with unprivileged():
        opened(path, range(1, 3)).close()
        path.chmod(0o444)
        with pytest.raises(StoreReadOnly, match=r"a\.db"):
            opened(path)
        path.chmod(0o644)
        assert stored(path) == [1, 2]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        opened(tmp_path / "nowhere" / "a.db")
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(StoreFailed, match=r"folder\.db"):
        opened(tmp_path / "folder.db")


# full disks


def fill(store: SqliteStore, size: int) -> int:
    """Commit until it is refused; the number of the refused one."""
    for number in range(store.next_seq(), 10_000):
        prepared = store.prepare(filled(number, size))
        try:
            store.commit(prepared)
        except StoreFull:
            with pytest.raises(StoreFailed, match="before this one"):
                commit(store, filled(number + 1, 1))  # it would stand on the one that is missing
            with pytest.raises(StoreFull):
                store.commit(prepared)
            return number
    raise AssertionError("the disk never became full")


def test_a_database_that_may_not_grow(tmp_path: Path) -> None:
    """What was committed stays; the refused commit may be tried again when there is space."""
    store = opened(tmp_path / "a.db")
    assert store._writer is not None
    store._writer.execute("pragma max_page_count = 60")
    prepared = store.prepare(filled(1, 500_000))
    with pytest.raises(StoreFull, match=r"a\.db"):
        store.commit(prepared)
    store._writer.execute("pragma max_page_count = 6000")
    store.commit(prepared)
    store.close()
    assert stored(tmp_path / "a.db") == [1]


@as_root
def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """A real one, of two megabytes. After a fresh opening on a disk with space, work goes on."""
    with mounted(tmp_path / "disk", "size=2m") as disk:
        store = opened(disk / "a.db", range(1, 3))
        refused = fill(store, 30_000)
        assert refused > 10
        assert [row.seq for row in store.running()] == list(range(1, refused))
        store.close()
        ballast = disk / "ballast"
        with pytest.raises(OSError, match="No space left"):
            ballast.write_bytes(bytes(3_000_000))
        with pytest.raises(StoreFull):
            again = opened(disk / "a.db")
            try:
                fill(again, 30_000)
                raise StoreFull
            finally:
                again.close()
        ballast.unlink()
        remount(disk, "size=8m")
        again = opened(disk / "a.db")
        assert [row.seq for row in again.running()][: refused - 1] == list(range(1, refused))
        commit(again, filled(again.next_seq(), 30_000))
        again.close()


@as_root
def test_a_disk_without_space_for_a_new_file(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=64k") as disk:
        with pytest.raises(OSError, match="No space left"):
            (disk / "ballast").write_bytes(bytes(100_000))
        with pytest.raises(StoreFull):
            opened(disk / "a.db")


@as_root
def test_a_failed_write_on_a_full_disk_is_told_as_full(tmp_path: Path) -> None:
    """SQLite does not always say why a write failed; on a disk with space it is something else."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    with mounted(tmp_path / "disk", "size=64k") as disk:
        assert type(told(error, str(disk / "a.db"))) is StoreFailed
        with pytest.raises(OSError, match="No space left"):
            (disk / "ballast").write_bytes(bytes(100_000))
        assert type(told(error, str(disk / "a.db"))) is StoreFull


@as_root
def test_a_disk_that_is_mounted_for_reading(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=8m") as disk:
        opened(disk / "a.db", range(1, 3)).close()
        remount(disk, "ro")
        with pytest.raises(StoreReadOnly):
            opened(disk / "a.db")
        remount(disk, "rw")
        assert stored(disk / "a.db") == [1, 2]


# damaged, foreign and newer files


@pytest.mark.parametrize("content", [b"not a database" * 500, b"SQLite format 3\0" + bytes(range(256)) * 30])
def test_a_file_that_is_no_database(tmp_path: Path, content: bytes) -> None:
    """It is refused, and left as it was."""
    path = tmp_path / "a.db"
    path.write_bytes(content)
    with pytest.raises(StoreCorrupt, match=r"a\.db"):
        opened(path)
    assert path.read_bytes() == content


def test_a_damaged_page(tmp_path: Path) -> None:
    """Found when it is read, or when it is to be written; what stands on other pages is still there."""
    path = tmp_path / "a.db"
    opened(path, range(1, 400)).close()
    with sqlite3.connect(path) as plain:
        (root,) = plain.execute("select rootpage from sqlite_schema where name = 'journal'").fetchone()
    content = bytearray(path.read_bytes())
    content[(root - 1) * 4096 : root * 4096] = b"\xa5" * 4096
    path.write_bytes(content)
    store = opened(path)
    with pytest.raises(StoreCorrupt, match=r"a\.db"):
        store.journal(7)
    with pytest.raises(StoreCorrupt, match=r"a\.db"):
        commit(store, filled(500))
    assert store.invocation(invocation_id(7)) is not None
    store.close()


@pytest.mark.parametrize(
    "damage",
    [
        "update invocation set awaiting = '{', status = 'suspended'",
        "update invocation set status = 'asleep'",
        "update invocation set id = cast(x'ff' as text)",
    ],
)
def test_a_row_that_was_not_written_by_us(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.db"
    opened(path, range(1, 2)).close()
    with sqlite3.connect(path) as plain:
        plain.execute(damage)
    store = opened(path)
    with pytest.raises(StoreCorrupt, match=r"a\.db"):
        store.expired(T0, 1)
        list(store.running())
        store.list(Filter())
    store.close()


def test_the_database_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as plain:
        plain.execute("create table invoices (n)")
    with pytest.raises(StoreFailed, match="another program"):
        opened(path)
    with sqlite3.connect(path) as plain:
        assert plain.execute("select name from sqlite_schema").fetchall() == [("invoices",)]


def test_a_file_of_a_newer_version(tmp_path: Path) -> None:
    """It is refused and left as it is, and the newer version goes on with it."""
    path = tmp_path / "a.db"
    opened(path, range(1, 3)).close()
    with sqlite3.connect(path) as plain:
        (version,) = plain.execute("pragma user_version").fetchone()
        plain.execute(f"pragma user_version = {version + 1}")
    with pytest.raises(StoreTooNew, match=f"version {version + 1}"):
        opened(path)
    with sqlite3.connect(path) as plain:
        plain.execute(f"pragma user_version = {version}")
    assert stored(path) == [1, 2]


# addresses


def test_the_addresses_of_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url, name in (("sqlite:///near.db", "near.db"), (f"sqlite:///{tmp_path}/far.db", "far.db")):
        store = open_store(url)
        commit(store, filled(1))
        store.close()
        assert stored(tmp_path / name) == [1]
    assert isinstance(open_store("memory://"), MemoryStore)


@pytest.mark.parametrize(
    "url",
    ["", "agentdur.db", "sqlite:", "sqlite://", "sqlite:///", "sqlite://near.db", "sqlite:///:memory:",
     "sqlite:///a.db?mode=ro", "sqlite:///folder/", "postgres:///x", "memory", "memory://x",
     "sqlite:///a\0b"],
)  # fmt: skip
def test_an_address_that_is_not_understood(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadStoreUrl):
        open_store(url)
    assert list(tmp_path.iterdir()) == []


# helpers


@contextmanager
def child(program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Another Python process; gone at the end in any case."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small disk in memory; the test is skipped where mounting is not allowed."""
    folder.mkdir()
    if _mount(folder, 0, options) != 0:
        pytest.skip("mounting is not allowed here")
    try:
        yield folder
    finally:
        assert ctypes.CDLL(None).umount2(os.fsencode(folder), 2) == 0  # 2: as soon as nobody uses it


def remount(folder: Path, options: str) -> None:
    """Change the disk under the files."""
    read_only, again = 1, 32
    assert (
        _mount(folder, again | (read_only if options == "ro" else 0), options if "=" in options else "") == 0
    )


def _mount(folder: Path, flags: int, options: str) -> int:
    path = os.fsencode(folder)
    return int(ctypes.CDLL(None).mount(b"tmpfs", path, b"tmpfs", flags, options.encode() or None))
