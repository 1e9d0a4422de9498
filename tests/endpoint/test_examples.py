"""The examples wherever the journal is: the stories that are told in one process are told here, unchanged.

Each in every mode: what costs is processes, so there is one server and one endpoint for all examples of a
mode, and the endpoint starts with its imports made (tests/support/warm.py)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from agentdur.testing.scripted_llm import ScriptedLLM, Turn, requests
from examples.agents import demo_world
from tests.agents.stories import STORIES, Story, says
from tests.agents.test_patterns import matches
from tests.endpoint.cluster import MODES, Cluster, cluster, until
from tests.openai_agents.test_example import CONVERSATION as OPENAI_AGENTS
from tests.support import warm

pytestmark = pytest.mark.slow
ALL = "tests/endpoint/all_examples.py"
ELSEWHERE = {
    "research": "tests/endpoint/test_every_server.py, which kills it while it reads pages",
    "human_approval": "test_a_person_decides_wherever_the_journal_is",
    "openai_agents_sdk": "test_an_agent_of_the_openai_agents_sdk_asks_before_it_cancels",
    "interrupt": "test_a_new_message_cancels_the_answer_to_the_old_one",
}
"""Examples that are no single call; where they are run."""
ANSWERED_MS = 300
TRIES_SECONDS_MAX = 120


class World:
    """A cluster whose endpoint serves every example, and the model they ask."""

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
def world(folder: Path, mode: str, *, nodes_die: bool = False) -> Iterator[World]:
    with played() as llm:
        environment = demo_world.environment_for("openai/scripted", llm.base_url, folder / "ledger")
        environment["AGENT_MODEL"] = "openai/scripted"
        how: Any = {"imported": warm.FRAMEWORKS, "nodes_die": nodes_die}
        with cluster(folder, mode, ALL, **how, **environment) as c:
            yield World(c, llm, mode)


@pytest.fixture(scope="module", params=list(MODES))
def w(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("examples"), request.param) as made:
        yield made


def path_of(story: Story) -> str:
    return "/" + "/".join(filter(None, (story.service, story.key, story.handler)))


def test_every_example_is_run_here():
    """A new one is added to the stories, or says where it is run."""
    files = {path.stem for path in (demo_world.ROOT / "examples" / "agents").glob("*.py")}
    examples = {name for name in files if not name.startswith(("demo", "_"))}
    assert examples == {story.example for story in STORIES} | set(ELSEWHERE)


@pytest.mark.parametrize("story", STORIES, ids=str)
def test_an_example_does_what_it_says_wherever_the_journal_is(w: World, story: Story):
    w.plays(*story.turns)
    answer = w.c.call(path_of(story), story.given)
    assert matches(answer, story.answer), answer
    assert w.answered == story.model_calls


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


def test_a_person_decides_wherever_the_journal_is(w: World):
    before = questions(w.c)
    waiting = w.c.send("/Claims/pay", {"name": "Ada", "euros": 1200})
    assert agree(w, before) == "Pay 1200 € to Ada?"
    assert w.c.result(waiting).json() == "paid 1200 € to Ada"


def test_an_agent_of_the_openai_agents_sdk_asks_before_it_cancels(w: World):
    """A hand-over, a tool, a tool that a person agrees to."""
    w.llm.replace(OPENAI_AGENTS)
    before = questions(w.c)
    waiting = w.c.send("/Desk/ada/say", "Cancel 17")
    agree(w, before)
    assert w.c.result(waiting).json() == "It is cancelled."


def test_a_new_message_cancels_the_answer_to_the_old_one(w: World):
    """Both messages are answered together. A server that cannot say anything to a running attempt says it to
    the next one: there the first answer comes, and is dropped; elsewhere it would take a minute."""
    told_at_once = w.mode not in ("request and response", "always leaving")
    w.plays(
        says("Short.", system="You know cities.", last_user="in one sentence!"),
        replace(
            says("Long.", system="You know cities.", last_user="Oslo"),
            delay_ms=60_000 if told_at_once else 1500,
        ),
    )
    before = len(w.llm.bodies())
    assert w.c.call("/Talk/ada/say", "Tell me about Oslo") == 1
    until(lambda: len(w.llm.bodies()) > before, "the first question")
    assert w.c.call("/Talk/ada/say", "in one sentence!") == 2
    answer = until(lambda: w.c.call("/Talk/ada/answer"), "the answer")
    assert "Short." in str(answer)


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


@pytest.mark.parametrize("mode", ["in process", "http2", "three nodes"])
def test_all_examples_at_once_survive_a_kill(mode: str, tmp_path: Path):
    """Of the process of the handlers, or of a node of the cluster, while the models think. What was answered
    and stored is not paid again."""
    stories = list({story.example: story for story in STORIES}.values())
    with world(tmp_path, mode, nodes_die=mode == "three nodes") as w:
        slower = [
            replace(turn, delay_ms=turn.delay_ms or ANSWERED_MS) for one in stories for turn in one.turns
        ]
        w.plays(*slower)
        running = [w.c.send(path_of(story), story.given) for story in stories]
        until(lambda: w.answered >= 3, "the first answers")
        if w.c.nodes > 1:
            w.c.kill_node(w.c.nodes - 1)
        else:
            w.c.kill()
        with ThreadPoolExecutor(len(running)) as pool:
            answers = list(pool.map(lambda one: result(w, one), running))
        for story, answer in zip(stories, answers, strict=True):
            assert matches(answer.json(), story.answer), (story, answer.json())
        paid = sum(story.model_calls for story in stories)
        assert paid <= w.answered <= paid + sum(story.at_most for story in stories)
