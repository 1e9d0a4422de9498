"""A cluster, or our own server, whose handlers ask a scripted model; and the people who decide."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from agentdur.testing.scripted_llm import ScriptedLLM, Turn, requests
from examples.agents import demo_world
from tests.endpoint.cluster import Cluster, cluster
from tests.support import warm
from tests.support.patience import until

TRIES_SECONDS_MAX = 120


class World:
    """The server, and the model that its handlers ask."""

    def __init__(self, c: Cluster, llm: ScriptedLLM, mode: str) -> None:
        self.c, self.llm, self.mode = c, llm, mode
        self._seen = 0

    def plays(self, *turns: Turn) -> None:
        """From now on the model says this."""
        self.llm.replace(list(turns) or [Turn(text="never asked")])
        self._seen = len(self.outcomes())

    def outcomes(self) -> list[str]:
        return [entry.outcome for entry in requests(self.llm.ledger())]

    @property
    def answered(self) -> int:
        """Answers of the model that were paid for since it plays."""
        return self.outcomes()[self._seen :].count("answered")

    def has_answered(self, times: int, again: int = 0) -> None:
        """So often, once the last answer is written down: who is answered may hear of it first. `again`: how
        many calls a cluster of several nodes may repeat, which changes the leader of a partition when it
        likes, and then repeats what is under way."""
        until(lambda: self.answered >= times, "the answers")
        most = times + (again if self.c.nodes > 1 else 0)
        assert self.answered <= most, (self.answered, most)


@contextmanager
def played() -> Iterator[ScriptedLLM]:
    """A scripted model on a loop of its own."""
    pytest.importorskip("litellm")
    made: list[ScriptedLLM] = []
    up, over = threading.Event(), threading.Event()

    async def main() -> None:
        async with ScriptedLLM([Turn(text="never asked")]) as llm:
            made.append(llm)
            up.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert up.wait(30)
    try:
        yield made[0]
    finally:
        over.set()
        thread.join(10)


@contextmanager
def world(
    folder: Path,
    mode: str,
    target: str,
    *,
    imported: Iterable[str] = warm.MODELS,
    nodes_die: bool = False,
    **environment: str,
) -> Iterator[World]:
    """The handlers of a file, where they find a scripted model."""
    with played() as llm:
        environment |= demo_world.environment_for("openai/scripted", llm.base_url, folder / "ledger")
        environment["AGENT_MODEL"] = "openai/scripted"
        with cluster(folder, mode, target, imported=imported, nodes_die=nodes_die, **environment) as c:
            yield World(c, llm, mode)


def questions(c: Cluster) -> set[str]:
    """The ids of approvals; agentdur's own inbox is not there on another server, its objects are."""
    if c.nodes:
        found = c.sql("select service_key from state where service_name = 'agentdur.Approval'")
        return {str(row["service_key"]) for row in found}
    return {one["id"] for one in c.client.get("/approvals").json()["approvals"]}


def agree(w: World, before: set[str]) -> str:
    """Somebody says yes to the question that comes up; what was asked."""
    (asked,) = until(lambda: questions(w.c) - before, "the question")
    if w.c.nodes:
        record = w.c.call(f"/agentdur.Approval/{asked}/show")
        decision = {"approved": True, "digest": record["digest"], "by": "somebody"}
        assert w.c.call(f"/agentdur.Approval/{asked}/decide", decision)["status"] == "approved"
    else:
        record = w.c.client.get(f"/approvals/{asked}").json()
        decision = {"digest": record["digest"], "by": "somebody"}
        assert w.c.client.post(f"/approvals/{asked}/approve", json=decision).status_code == 200
    return str(record["question"])


def result(w: World, invocation: str) -> httpx.Response:
    """Of any node that answers, as often as it takes."""
    deadline, tries = time.monotonic() + TRIES_SECONDS_MAX, 0
    while True:
        tries += 1
        port = w.c.ingress_ports[tries % len(w.c.ingress_ports)]
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}/restate/invocation/{invocation}/attach", timeout=30)
            if answer.status_code == 200:
                return answer
        except httpx.HTTPError:
            pass  # a node that is dead, or has lost the one it asked
        assert time.monotonic() < deadline, f"{invocation} did not end"
        time.sleep(0.2)
