"""A server whose store gets into trouble: it says so, keeps what it acknowledged, and goes on when it can."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.server import Server, serving, until

pytestmark = pytest.mark.slow
TEXT = json.dumps("x" * 50_000)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if sys.platform != "linux" or mounted(disk, "size=2m").returncode:
        pytest.skip("a disk of 2 MB needs Linux, and root")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def mounted(disk: Path, options: str) -> subprocess.CompletedProcess[bytes]:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
    return subprocess.run(command, capture_output=True, check=False)


def test_a_full_disk(small_disk: Path, tmp_path: Path):
    with serving(tmp_path, store="disk/a.db") as server:
        kept = []
        for number in range(60):
            answer = server.post(f"/Box/{number}/put", TEXT)
            if answer.status_code != 200:
                break
            kept.append(number)
        assert (answer.status_code, answer.json()["source"]) == (503, "ingress")
        assert "[AD0051]" in answer.json()["message"]
        assert answer.json()["message"].endswith("unacknowledged work is retried.")
        told = server.operator.get("/invocations", timeout=5)
        assert (told.status_code, "[AD0051]" in told.json()["message"]) in ((500, True), (200, False))
        assert "[AD0051]" in server.said()

        assert mounted(small_disk, "remount,size=20m").returncode == 0
        until(lambda: server.post("/Box/later/put", b"1").status_code == 200)
        assert "the store is back" in server.said()
        server.restart()
        assert kept
        for number in kept:
            assert server.post(f"/Box/{number}/read").json() == [str(number), "x" * 50_000]


def test_a_file_that_is_removed_is_not_written_any_more(tmp_path: Path):
    with serving(tmp_path) as server:
        server.post("/Box/a/put", b"1").raise_for_status()
        os.remove(tmp_path / "a.db")
        for _ in range(2):
            answer = server.post("/Box/a/put", b"2")
            assert answer.status_code == 503
            assert "a.db was removed or replaced while it was open" in answer.json()["message"]
        assert "removed or replaced" in server.said()
        assert server.stop() == 0
        assert not (tmp_path / "a.db").exists()


def newer(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("pragma user_version = 99")
    connection.close()


def foreign(file: Path) -> None:
    file.unlink()
    with sqlite3.connect(file) as connection:
        connection.execute("create table bills (amount)")
    connection.close()


def corrupt(file: Path) -> None:
    pages = bytearray(file.read_bytes())
    pages[3 * 4096 :] = b"\xff" * (len(pages) - 3 * 4096)
    file.write_bytes(pages)


def garbage(file: Path) -> None:
    file.write_bytes(b"no database at all" * 1000)


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a server that has worked and stopped."""
    home = tmp_path_factory.mktemp("used")
    with serving(home) as server:
        for number in range(100):
            server.post(f"/Box/{number}/put", b'"some text"').raise_for_status()
        assert server.stop() == 0
    assert not (home / "a.db-wal").exists()
    return (home / "a.db").read_bytes()


@pytest.mark.parametrize(
    ("spoil", "code", "message"),
    [
        (newer, "AD0053", "its schema has version 99"),
        (foreign, "AD0055", "the file is the database of another program"),
        (corrupt, "AD0054", "malformed"),
        (garbage, "AD0054", "file is not a database"),
        (folder, "AD0055", "unable to open database file"),
    ],
)
def test_a_file_that_cannot_be_used(
    used: bytes, tmp_path: Path, spoil: Callable[[Path], None], code: str, message: str
):
    """One line that names the file, the code and the cure, and the file stays as it is. What is corrupt is
    found by reading, when the first page has been written to prove that it can be."""
    file = tmp_path / "a.db"
    file.write_bytes(used)
    spoil(file)
    start = 4096 if spoil is corrupt else 0
    before = file.read_bytes()[start:] if file.is_file() else b""
    assert_refused(Server(tmp_path), f"[{code}] {file}: ", message)
    assert (file.read_bytes()[start:] if file.is_file() else b"") == before


def test_a_folder_that_is_not_there(tmp_path: Path):
    server = Server(tmp_path, store="nowhere/a.db")
    assert_refused(server, "[AD0055]", f"there is no folder {tmp_path / 'nowhere'}")


def test_a_file_that_may_not_be_written(tmp_path: Path):
    file = tmp_path / "a.db"
    file.touch(0o444)
    if os.access(file, os.W_OK):
        pytest.skip("root writes every file")
    assert_refused(Server(tmp_path), f"[AD0052] {file}", "permissions")


def test_a_file_that_another_server_uses(tmp_path: Path):
    with serving(tmp_path) as server:
        assert_refused(server, f"[AD0050] {tmp_path / 'a.db'} is open in process ", "Stop it, or use")
        server.post("/Box/a/put", b"1").raise_for_status()


def assert_refused(server: Server, *words: str) -> None:
    ports = ("--ingress-port", "0", "--admin-port", "0")
    ended = server.command("serve", str(server.agent), "--store", server.store, *ports)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: [")
    assert ended.stderr.count("\n") == 1
    for word in words:
        assert word in ended.stderr
