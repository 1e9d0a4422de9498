"""A real process over SQLite, killed with SIGKILL again and again: what was accepted is done, done once."""

import asyncio
import json
import os
import random
import signal
import socket
import sqlite3
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.crash.agents import BRANCHES, STEPS

ROOT = Path(__file__).parents[2]
KILLS = 55
ALIVE_SECONDS = (0.1, 0.5)
CLIENTS = 4
KEYS = ("a", "b")
KINDS = ("chain", "fan", "ask", "add")


class Nursery:
    """Starts processes and kills them; clients talk to whichever is up."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "agents.db"
        self.ledger_file = folder / "ledger"
        self.kills = 0
        self.pid = 0
        self.resolved: set[str] = set()
        self.port: int
        self._process: asyncio.subprocess.Process

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Nursery"]:
        ledger = os.open(self.ledger_file, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = listening.getsockname()[1]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.crash.nursery", str(self.database), str(listening.fileno()),
            cwd=ROOT, env={**os.environ, "LEDGER_FD": str(ledger)}, pass_fds=(ledger, listening.fileno()),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            yield self
        finally:
            with suppress(ProcessLookupError):
                if self.pid:
                    os.kill(self.pid, signal.SIGKILL)
                self._process.kill()
            await self._process.wait()
            listening.close()
            os.close(ledger)

    async def _line(self) -> str:
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().strip()

    async def start(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"start\n")
        self.pid = int(await self._line())

    async def end(self, how: signal.Signals) -> str:
        os.kill(self.pid, how)
        said, self.pid = await self._line(), 0
        return said

    async def ask(self, **asked: Any) -> Any:
        """One request; ConnectionError when the process went away before it answered."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(json.dumps(asked).encode() + b"\n")
            answer = await reader.readline()
        finally:
            writer.close()
        if not answer:
            raise ConnectionError("the process is gone")
        return json.loads(answer)

    async def insist(self, **asked: Any) -> Any:
        """The same request until it is answered."""
        while True:
            with suppress(ConnectionError):
                return await self.ask(**asked)
            await asyncio.sleep(0.01)

    def ledger(self) -> list[tuple[str, str, str, int]]:
        """(begin or end, invocation, step, process)."""
        lines = self.ledger_file.read_text().splitlines()
        return [(kind, who, step, int(process)) for kind, who, step, process in map(str.split, lines)]


class Story:
    """What the clients asked for and were told."""

    def __init__(self) -> None:
        self.accepted: dict[str, tuple[str, str]] = {}
        self.answers: dict[str, Any] = {}
        self.adds: dict[str, int] = dict.fromkeys(KEYS, 0)

    async def client(self, nursery: Nursery, name: str, until: asyncio.Event) -> None:
        """Asks for one thing after another, and for each until it is told that it was accepted."""
        chance, count = random.Random(name), 0
        while not until.is_set():
            count += 1
            kind, key, request = chance.choice(KINDS), chance.choice(KEYS), f"{name}.{count}"
            if kind == "add":
                answer = await nursery.insist(
                    do="call", service="Counter", handler="add", key=key, id=request
                )
                self.answers[request] = answer
            else:
                value = key if kind != "ask" else request
                invocation = await nursery.insist(
                    do="send", service="Work", handler=kind, value=value, id=request
                )
                self.accepted[invocation] = (kind, value)
            self.adds[key] += {"chain": 1, "fan": BRANCHES, "ask": 0, "add": 1}[kind]

    async def person(self, nursery: Nursery) -> None:
        """Answers every question that is in the ledger."""
        while True:
            asked = {who for kind, who, step, _ in nursery.ledger() if step == "ask" and kind == "end"}
            for awakeable in asked - nursery.resolved:
                await nursery.insist(do="resolve", awakeable=awakeable, value="yes")
                nursery.resolved.add(awakeable)
            await asyncio.sleep(0.02)


async def killed_again_and_again(nursery: Nursery, chance: random.Random) -> None:
    while nursery.kills < KILLS:
        await nursery.start()
        await asyncio.sleep(chance.uniform(*ALIVE_SECONDS))
        await nursery.end(signal.SIGKILL)
        nursery.kills += 1
    await nursery.start()


async def everything_has_ended(nursery: Nursery) -> None:
    while await nursery.insist(do="unfinished"):
        await asyncio.sleep(0.1)


@pytest.mark.slow
async def test_a_process_that_is_killed_loses_nothing(tmp_path: Path):
    nursery, story, enough = Nursery(tmp_path), Story(), asyncio.Event()
    async with nursery.open(), asyncio.timeout(240), asyncio.TaskGroup() as group:
        clients = [group.create_task(story.client(nursery, f"client{n}", enough)) for n in range(CLIENTS)]
        person = group.create_task(story.person(nursery))
        await killed_again_and_again(nursery, random.Random("kills"))
        enough.set()
        await asyncio.wait(clients)
        await everything_has_ended(nursery)
        person.cancel()
        await check_results(nursery, story)
        assert await nursery.end(signal.SIGTERM) == "dead 0"
    check_ledger(nursery, story)
    check_database(nursery.database)


async def check_results(nursery: Nursery, story: Story) -> None:
    """Everything accepted has its result; increments are exact; no handler met a journal it did not know."""
    assert len(story.accepted) > KILLS, "too little was going on"
    expected = {
        "chain": lambda value: [f"s{n}" for n in range(STEPS)],
        "fan": lambda value: list(range(BRANCHES)),
        "ask": lambda value: f"{value} yes",
    }
    for invocation, (kind, value) in story.accepted.items():
        told = await nursery.ask(do="output", invocation=invocation)
        assert told == {"value": expected[kind](value)}, (kind, value)
    for key in KEYS:
        count = await nursery.ask(do="call", service="Counter", handler="read", key=key)
        assert count == story.adds[key], key
    assert len(set(story.answers)) == len(story.answers)
    assert await nursery.ask(do="failed") == []


def check_ledger(nursery: Nursery, story: Story) -> None:
    """Each step ran; again only in another process; never after the next step of its line had begun."""
    began: dict[tuple[str, str], list[int]] = defaultdict(list)
    for kind, who, step, process in nursery.ledger():
        if kind == "begin":
            began[(who, step)].append(process)
    for invocation, (kind, _) in story.accepted.items():
        for step in steps_of(kind):
            assert began[(invocation, step)], f"{invocation} {step} never ran"
    again = 0
    for (who, step), processes in began.items():
        assert len(set(processes)) == len(processes), f"{who} {step} ran twice in one process: {processes}"
        again += len(processes) - 1
        following = began.get((who, following_step(step)), [])
        assert not following or max(processes) <= min(following), f"{who} {step} ran again when it was done"
    assert again, "no kill hit a step"


def steps_of(kind: str) -> list[str]:
    if kind == "chain":
        return [f"s{n}" for n in range(STEPS)]
    return [f"b{n}.{k}" for n in range(BRANCHES) for k in range(2)] if kind == "fan" else []


def following_step(step: str) -> str:
    """The one that begins only when this one's result is stored."""
    if step.startswith("s"):
        return f"s{int(step[1:]) + 1}"
    return step.removesuffix(".0") + ".1" if step.endswith(".0") else "none"


def check_database(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        assert connection.execute("select count(*) from timer").fetchone() == (0,)
    connection.close()
