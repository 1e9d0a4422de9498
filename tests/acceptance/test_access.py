"""A server with tokens: as our command, the restate command and a plain client meet it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.server import Server, environment, serving

pytestmark = pytest.mark.slow


def made(server: Server, role: str, file: Path) -> str:
    """A new token."""
    return server.command("token", role, "--role", role, "--file", str(file)).stdout.strip()


def test_commands_show_their_token_and_do_what_it_allows(tmp_path: Path):
    file = tmp_path / "access.toml"
    maker = Server(tmp_path)
    tokens = {role: made(maker, role, file) for role in ("viewer", "operator", "admin")}
    maker.close()
    assert not any(token in file.read_text() for token in tokens.values())
    with serving(tmp_path, "--set", f"access-file={file}") as server:
        id = server.send("/Desk/wait")
        unknown = server.command("invocations", "list")
        assert (unknown.returncode != 0, "AD0232" in unknown.stderr) == (True, True)
        seen = server.command("invocations", "list", AGENTDUR_ADMIN_TOKEN=tokens["viewer"])
        assert id in seen.stdout
        killed = ("invocations", "kill", id, "--yes")
        refused = server.command(*killed, AGENTDUR_ADMIN_TOKEN=tokens["viewer"])
        assert (refused.returncode != 0, "AD0233" in refused.stderr) == (True, True)
        assert server.command(*killed, AGENTDUR_ADMIN_TOKEN=tokens["operator"]).returncode == 0
        asked = server.command("sql", "SELECT id FROM sys_invocation", AGENTDUR_ADMIN_TOKEN=tokens["admin"])
        assert id in asked.stdout

        restate = os.environ.get("RESTATE_CLI")
        if restate:
            for token, code in ((tokens["admin"], 0), ("adt_nobody_0123456789abcdef", 1)):
                environ = environment() | {
                    "RESTATE_ADMIN_URL": f"http://127.0.0.1:{server.admin}", "RESTATE_AUTH_TOKEN": token,
                }  # fmt: skip
                told = subprocess.run(
                    [restate, "services", "list"], env=environ, text=True, capture_output=True, timeout=60,
                    check=False,
                )  # fmt: skip
                assert (told.returncode != 0) == bool(code), told.stderr
                assert ("Desk" in told.stdout + told.stderr) == (not code)


def test_a_file_that_cannot_be_used_ends_the_start_with_a_line(tmp_path: Path):
    (tmp_path / "access.toml").write_text("[tokens.ada]\nrole = 'root'\n")
    maker = Server(tmp_path)
    ended = maker.command(
        "serve", str(maker.agent), "--set", "access-file=access.toml", "--store", "memory://"
    )
    maker.close()
    assert ended.returncode != 0
    assert "AD0235" in ended.stderr
    assert "tokens.ada has to have role and hash" in ended.stderr
