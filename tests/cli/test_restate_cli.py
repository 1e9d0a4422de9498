"""The command `restate` of the Restate project operates our server, and believes what it reads."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.http.reference_server import free_ports, stop, wait_until_up

PACKAGE = Path("@restatedev") / f"restate-linux-{'arm64' if os.uname().machine == 'aarch64' else 'x64'}"
AGENT = """
from agentdur import App, Service, VirtualObject, Workflow
work, room, signup = Service("Work"), VirtualObject("Room"), Workflow("Signup")

@work.handler()
async def quick(ctx, text: str) -> str:
    return await ctx.run("say", lambda: text)

@work.handler()
async def wait(ctx) -> str:
    return await ctx.awakeable()[1]

@work.handler()
async def broken(ctx) -> None:
    raise ValueError("not yet")

@room.handler()
async def enter(ctx, n: int) -> int:
    ctx.set("n", n)
    return n

@signup.main()
async def run(ctx) -> str:
    return "done"

app = App([work, room, signup])
"""


def find_command() -> str | None:
    """`RESTATE_CLI`, else the npm package in a node_modules folder of this folder or one above."""
    if named := os.environ.get("RESTATE_CLI"):
        return named
    for folder in Path(__file__).resolve().parents:
        found = folder / "node_modules" / PACKAGE / "bin" / "restate"
        if found.exists():
            return str(found)
    return None


COMMAND = find_command()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(COMMAND is None, reason="no restate command: npm install @restatedev/restate@1.7"),
]


class Site(NamedTuple):
    """A server, and the command that operates it."""

    admin: str
    ingress: str
    folder: Path

    def send(self, path: str, **given: Any) -> str:
        """The id of a new invocation."""
        return str(httpx.post(f"{self.ingress}/{path}", **given).raise_for_status().json()["invocationId"])

    def done(self, text: str = "x") -> str:
        """The id of an invocation that has ended."""
        sent = self.send("Work/quick/send", json=text)
        httpx.get(f"{self.ingress}/restate/attach/{sent}").raise_for_status()
        return sent

    def status(self, invocation: str) -> str | None:
        found = httpx.get(f"{self.admin}/invocations/{invocation}")
        return None if found.status_code == 404 else str(found.json()["status"])

    def state(self, key: str) -> Any:
        query = {"object_key": key}
        return httpx.get(f"{self.admin}/services/Room/state", params=query).json()["state"]

    def run(self, *arguments: str, code: int = 0, editor: str = "") -> str:
        """What the command says, without colours."""
        environment = {
            "HOME": str(self.folder), "PATH": os.environ["PATH"], "RESTATE_ADMIN_URL": self.admin, "CI": "1",
            "EDITOR": editor, "DO_NOT_TRACK": "1",
        }  # fmt: skip
        assert COMMAND is not None
        ran = subprocess.run(
            [COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        text = re.sub(r"\x1b\[[0-9;]*m", "", ran.stdout + ran.stderr)
        assert ran.returncode == code, text
        return text


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("restate-cli")
    (folder / "agent.py").write_text(AGENT)
    ingress, admin = free_ports(2)
    command = [
        sys.executable, "-m", "agentdur.cli", "serve", "agent.py", "--store", f"sqlite:///{folder}/store.db",
        "--ingress-port", str(ingress), "--admin-port", str(admin),
    ]  # fmt: skip
    with ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("wb"))
        stack.callback(stop, subprocess.Popen(command, cwd=folder, stdout=log, stderr=log))
        wait_until_up(f"http://127.0.0.1:{admin}/health")
        yield Site(f"http://127.0.0.1:{admin}", f"http://127.0.0.1:{ingress}", folder)


def until(what: Callable[[], Any], wanted: Any) -> None:
    for _ in range(1000):
        if what() == wanted:
            return
        time.sleep(0.01)
    raise AssertionError(f"it is {what()}, not {wanted}")


def editor_of(site: Site, script: str) -> str:
    """A program that changes the file it is given."""
    file = site.folder / "editor.sh"
    file.write_text(f'#!/bin/sh\nsed -i "{script}" "$1"\n')
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


def test_it_knows_where_it_is(site: Site):
    told = site.run("whoami")
    assert "is healthy!" in told
    assert site.ingress in told


def test_it_lists_and_describes_services_and_deployments(site: Site):
    told = site.run("services", "list")
    assert re.search(r"\[public\]\s+Room\s+1\s+virtual object\s+HTTP\s+dp_", told)
    described = site.run("services", "describe", "Work")
    assert re.search(r"quick\s+JSON string\s+JSON string", described)
    deployments = site.run("deployments", "list")
    assert "Signup [1]" in deployments
    (deployment,) = set(re.findall(r"dp_\w+", deployments))
    assert "Workflow" in site.run("deployments", "describe", deployment)
    assert "400 Bad Request" in site.run("deployments", "remove", deployment, "--force", code=1)
    site.run("services", "describe", "Nobody", code=1)


def test_it_configures_a_service(site: Site):
    site.run("services", "config", "patch", "Signup", "--journal-retention", "2h")
    assert re.search(r"Journal retention:\s+2h", site.run("services", "config", "view", "Signup"))
    assert httpx.get(f"{site.admin}/services/Signup").json()["journal_retention"] == "2h"


def test_it_lists_and_describes_invocations(site: Site):
    waiting, done = site.send("Work/wait/send"), site.done("described")
    failing = site.send("Work/broken/send")
    listed = site.run("invocations", "list", "--all")
    assert {waiting, done, failing} <= set(re.findall(r"inv_\w+", listed))
    assert "not yet" in listed
    of_work = site.run("invocations", "list", "--service", "Work", "--all")
    assert {waiting, done, failing} <= set(re.findall(r"inv_\w+", of_work))
    assert "Showing 0/0" in site.run("invocations", "list", "--service", "Signup")
    told = site.run("invocations", "describe", done)
    for entry in ("Command: Input", "Command: Run [say]", "Notification: Run", "Command: Output"):
        assert entry in told
    assert "completed with success" in told
    assert "running" in site.run("invocations", "describe", waiting)
    assert "Work" in site.run("services", "status")
    site.run("invocations", "kill", failing)


def test_it_intervenes(site: Site):
    waiting = site.send("Work/wait/send")
    for action, status in (("pause", "paused"), ("resume", "running"), ("cancel", "completed")):
        site.run("invocations", action, waiting)
        until(lambda: site.status(waiting), status)
    again = site.run("invocations", "restart-as-new", site.done("again"))
    new = re.findall(r"inv_\w+", again)[-1]
    until(lambda: site.status(new), "completed")
    site.run("invocations", "purge", new)
    assert site.status(new) is None
    several = {site.send("Work/wait/send") for _ in range(3)}
    site.run("invocations", "kill", "Work/wait")
    assert {site.status(one) for one in several} == {"completed"}
    assert "No invocations found" in site.run("invocations", "kill", new, code=1)


def test_it_reads_edits_and_clears_state(site: Site):
    httpx.post(f"{site.ingress}/Room/k/enter", json=5).raise_for_status()
    assert re.search(r"n\s+5", site.run("state", "get", "Room", "k"))
    site.run("state", "edit", "Room", "k", editor=editor_of(site, "s/5/8/"))
    until(lambda: site.state("k"), {"n": "8"})
    patch = [{"op": "add", "path": "/m", "value": "3"}]
    site.run("state", "patch", "Room", "k", "--patch", json.dumps(patch))
    until(lambda: sorted(site.state("k")), ["m", "n"])
    site.run("state", "clear", "Room/k")
    until(lambda: site.state("k"), {})


def test_it_asks_in_sql(site: Site):
    site.done("asked")
    told = site.run("sql", "select target, count(*) as n from sys_invocation group by target order by target")
    assert re.search(r"Work/quick\s+\d+", told)
    assert site.run("sql", "--json", "select 1 as one").startswith('[{"one":1}]')
    assert "sys_nothing" in site.run("sql", "select * from sys_nothing", code=1)
