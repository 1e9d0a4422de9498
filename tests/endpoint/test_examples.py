"""The examples wherever the journal is: the stories that are told in one process are told here, unchanged.

Each in every mode: what costs is processes, so there is one server and one endpoint for all examples of a
mode, and the endpoint starts with its imports made (tests/support/warm.py)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from examples.agents import demo_world
from tests.agents.stories import STORIES, Story, says
from tests.agents.test_patterns import matches
from tests.endpoint.cluster import MODES
from tests.endpoint.world import World, agree, questions, result, world
from tests.openai_agents.test_example import CONVERSATION as OPENAI_AGENTS
from tests.support import warm
from tests.support.patience import until

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


@pytest.fixture(scope="module", params=list(MODES))
def w(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("examples")
    with world(folder, request.param, ALL, imported=warm.FRAMEWORKS) as made:
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
    w.has_answered(story.model_calls, story.at_most)


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


@pytest.mark.parametrize("mode", ["in process", "http2", "three nodes"])
def test_all_examples_at_once_survive_a_kill(mode: str, tmp_path: Path):
    """Of the process of the handlers, or of a node of the cluster, while the models think. What was answered
    and stored is not paid again."""
    stories = list({story.example: story for story in STORIES}.values())
    dying = mode == "three nodes"
    with world(tmp_path, mode, ALL, imported=warm.FRAMEWORKS, nodes_die=dying) as w:
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
