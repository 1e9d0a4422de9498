"""Forks that ask a model otherwise: another prompt, another model, from any of its turns."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from agentdur import Context, Service
from agentdur.admin.app import create_admin
from agentdur.agent import Agent, run_agent
from agentdur.cli import main
from agentdur.cli.admin_api import AdminApi
from agentdur.cli.mcp_tools import Tools
from agentdur.core.edits import EDITS, edits_of
from agentdur.core.ids import InvocationId
from agentdur.ingress.requests import forwarded
from agentdur.llm import completion
from agentdur.observe.redaction import hiding
from agentdur.sdk.along import FROM_OUTSIDE
from agentdur.testing.scripted_llm import ScriptedLLM, ToolCall, Turn, When, requests
from agentdur.tools import tool
from tests.agents.conftest import llm
from tests.support.serving import served
from tests.support.stage import InlineCommitter, Stage

pytestmark = pytest.mark.slow

__all__ = ["llm"]

MODEL, OTHER = "openai/scripted", "openai/other"
BRIEF, KIND = "Be brief.", "Be kind."
looked: Counter[str] = Counter()
heard: list[dict[str, str]] = []
shelf = Service("Shelf")


@tool
async def look(book: str) -> str:
    """Look a book up."""
    looked[book] += 1
    return f"{book} is there"


clerk = Agent(name="clerk", model=MODEL, instructions=BRIEF, tools=[look])
friend = Agent(name="friend", model=MODEL, instructions="You are a friend.")


@shelf.handler()
async def ask(ctx: Context, question: str) -> str:
    """A clerk looks something up and answers; a friend is told the same question afterwards."""
    said = (await run_agent(ctx, clerk, question)).text
    heard = (await run_agent(ctx, friend, question)).text
    return f"{said} {heard}"


@shelf.handler()
async def rate(ctx: Context, question: str) -> str:
    """A model is asked outside of any agent; what came before it was no model's."""
    heard.append(dict(ctx.request().headers))
    await ctx.run("fetch", lambda: question)
    said = {"role": "user", "content": question}
    return (await completion(ctx, MODEL, [said, said])).text


def wants(book: str, **when: Any) -> Turn:
    call = ToolCall(name="look", arguments={"book": book}, id=f"call_{book}")
    return Turn(tool_calls=(call,), when=When(**when))


SCRIPT = [
    wants("rules", model="other", system="Be"),
    Turn(text="Other says so.", when=When(model="other", system="Be")),
    wants("maps", last_user="Atlas?", system="Be"),
    Turn(text="Maps.", when=When(last_user="Atlas?", system="Be")),
    Turn(text="An atlas, then.", when=When(last_user="Atlas?", system="friend")),
    Turn(text="So I hear.", when=When(system="friend")),
    wants("novels", system=KIND), Turn(text="Gladly.", when=When(system=KIND)),
    wants("novels", system=BRIEF), Turn(text="Yes.", when=When(system=BRIEF)),
    Turn(text="Five."),
]  # fmt: skip


class Desk:
    """Asks, forks and looks at what came of it, by the admin API; `asked`: models, in order."""

    def __init__(self, stage: Stage, llm: ScriptedLLM) -> None:
        self.stage, self.llm = stage, llm
        llm.replace(SCRIPT)
        looked.clear()
        self.http = httpx.AsyncClient()

    async def open(self, **how: Any) -> None:
        await self.http.aclose()
        await self.stage.start(shelf, **how)
        transport = httpx.ASGITransport(create_admin(self.stage.engine))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://admin")

    @property
    def asked(self) -> list[str]:
        return [entry.model for entry in requests(self.llm.ledger())]

    async def ask(self, question: str = "Novel?", handler: str = "ask") -> str:
        start = {"service": "Shelf", "handler": handler, "input": question}
        id = str((await self.http.post("/invocations", json=start)).json()["id"])
        await self.stage.until_status(id, "completed")
        return id

    async def try_fork(self, id: str, **body: Any) -> httpx.Response:
        return await self.http.post(f"/invocations/{id}/fork", json=body)

    async def fork(self, id: str, **body: Any) -> dict[str, Any]:
        """What the fork came to, and its journal."""
        given = await self.try_fork(id, **body)
        assert given.status_code == 200, given.text
        return await self.stage.until_status(given.json()["new_invocation_id"], "completed")

    async def told(self, run: dict[str, Any]) -> list[list[str]]:
        """What models were told as system and user, turn by turn."""
        found = []
        for row in run["journal"]:
            if head := row.get("meta", {}).get("conversation"):
                messages = (await self.http.get(f"/conversations/{head}")).json()["messages"]
                found.append([m["content"] for m in messages if m["role"] in ("system", "user")])
        return found


@pytest.fixture
async def desk(tmp_path: Path, llm: ScriptedLLM) -> AsyncIterator[Desk]:
    made = Desk(Stage("memory", tmp_path), llm)
    await made.open()
    yield made
    await made.http.aclose()
    await made.stage.close()


def turns(run: dict[str, Any], step: str = "llm:clerk") -> list[int]:
    """The entries of a step's turns."""
    return [row["index"] for row in run["journal"] if row.get("name") == step]


async def shown(desk: Desk, id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await desk.http.get(f"/invocations/{id}")).json()
    return found


async def test_an_edited_prompt_holds_for_the_turn_and_for_those_behind_it(desk: Desk):
    old = await desk.ask()
    before = await shown(desk, old)
    assert (before["output"], len(desk.asked)) == ("Yes. So I hear.", 3)
    first, second = turns(before)
    new = await desk.fork(old, turns={first: {"messages": {"0": KIND}}})
    assert new["output"] == "Gladly. So I hear."
    assert await desk.told(new) == [[KIND, "Novel?"], [KIND, "Novel?"], ["You are a friend.", "Novel?"]]
    assert (len(desk.asked), looked["novels"]) == (6, 2), "all of it ran anew"
    assert new["journal"][1:first] == before["journal"][1:first]
    late = await desk.fork(old, turns={second: {"messages": {"0": KIND}}})
    assert late["output"] == "Gladly. So I hear."
    assert await desk.told(late) == [[BRIEF, "Novel?"], [KIND, "Novel?"], ["You are a friend.", "Novel?"]]
    assert (len(desk.asked), looked["novels"]) == (8, 2), "the first turn and its tool are kept"
    assert (await shown(desk, old))["journal"] == before["journal"]


async def test_what_the_user_said_is_another_thing_for_all_agents_that_are_told(desk: Desk):
    old = await desk.ask()
    new = await desk.fork(old, turns={turns(await shown(desk, old))[0]: {"messages": {"1": "Atlas?"}}})
    assert new["output"] == "Maps. An atlas, then."
    assert looked == {"novels": 1, "maps": 1}


async def test_another_model_is_asked_in_this_turn_and_in_those_of_the_same_name(desk: Desk):
    old = await desk.ask()
    second = turns(await shown(desk, old))[1]
    new = await desk.fork(old, turns={second: {"model": OTHER}})
    assert new["output"] == "Other says so. So I hear."
    assert desk.asked == ["scripted"] * 3 + ["other", "scripted"]
    (noted, friends) = [row["meta"] for row in new["journal"] if row.get("meta", {}).get("edited") or
                        row.get("meta", {}).get("conversation")][1:]  # fmt: skip
    assert (noted["asked"], noted["why"], noted["edited"]) == (MODEL, "edited", [0])
    assert "edited" not in friends


async def test_what_was_edited_is_recorded_and_a_fork_of_a_fork_has_both(desk: Desk):
    old = await desk.ask()
    first, second = turns(await shown(desk, old))
    new = await desk.fork(old, turns={first: {"messages": {"0": KIND}}})
    again = await desk.fork(new["id"], turns={second: {"model": OTHER}})
    assert again["edits"] == [
        {"what": "message", "of": old, "entry": first, "step": "llm:clerk", "at": 0, "nth": 0,
         "role": "system", "told": {"role": "system", "content": BRIEF}, "content": KIND, "used": True},
        {"what": "model", "of": new["id"], "entry": second, "step": "llm:clerk", "told": MODEL,
         "model": OTHER, "used": True},
    ]  # fmt: skip
    assert [row[0] for row in await desk.told(again)] == [KIND, KIND, "You are a friend."]
    with hiding():
        veiled = await desk.stage.engine.describe(InvocationId(again["id"])) or {}
    assert KIND not in str(veiled) and BRIEF not in str(veiled), "who sees no payloads sees no prompts"
    assert [edit["used"] for edit in veiled["edits"]] == [True, True]
    whole = await desk.http.patch(f"/invocations/{again['id']}/restart-as-new")
    restarted = await desk.stage.until_status(whole.json()["new_invocation_id"], "completed")
    assert restarted["edits"] == again["edits"], "a fork that is restarted is the same fork"
    assert restarted["output"] == "Other says so. So I hear."


async def test_a_result_and_a_prompt_are_edited_at_once(desk: Desk):
    old = await desk.ask()
    run = await shown(desk, old)
    found = next(row for row in run["journal"] if "value" in row and "is there" in str(row["value"]))
    value = {**found["value"], "content": "no such book"}
    new = await desk.fork(old, **{
        "from": found["index"], "edits": {found["index"]: value},
        "turns": {turns(run)[1]: {"messages": {"0": KIND}}},
    })  # fmt: skip
    assert looked["novels"] == 1, "the tool was not run again"
    assert [(edit["what"], edit["entry"], edit["used"]) for edit in new["edits"]] == [
        ("value", found["index"], True), ("message", turns(run)[1], True)
    ]  # fmt: skip
    head = [row["meta"]["conversation"] for row in new["journal"] if "conversation" in row.get("meta", {})][1]
    messages = (await desk.http.get(f"/conversations/{head}")).json()["messages"]
    assert [messages[0]["content"], messages[3]["content"]] == [KIND, "no such book"]


async def test_an_edit_that_the_fork_never_comes_to_is_told(desk: Desk):
    """Meanwhile the clerk has other instructions: nobody tells the edited message any more."""
    old = await desk.ask()
    second = turns(await shown(desk, old))[1]
    object.__setattr__(clerk, "instructions", "Be new.")
    try:
        new = await desk.fork(old, turns={second: {"messages": {"0": KIND}}})
    finally:
        object.__setattr__(clerk, "instructions", BRIEF)
    assert [edit["used"] for edit in new["edits"]] == [False]


async def test_a_call_without_an_agent_is_asked_otherwise(desk: Desk):
    """A step outside of any agent; of two equal messages the one that is meant is another."""
    old = await desk.ask(handler="rate")
    turn = turns(await shown(desk, old), "llm:Shelf")[0]
    new = await desk.fork(old, turns={turn: {"model": OTHER, "messages": {"1": "Ten?"}}})
    assert (new["output"], desk.asked[-1]) == ("Five.", "other")
    assert await desk.told(new) == [["Novel?", "Ten?"]]


REFUSED: Sequence[tuple[dict[str, Any], int, str]] = [
    ({"turns": {"0": {"model": OTHER}}}, 422, "AD0227"),  # the input
    ({"turns": {"1": {"model": OTHER}}}, 422, "AD0227"),  # a step, but no model's
    ({"turns": {"99": {"model": OTHER}}}, 422, "AD0227"),
    ({"turns": {"3": {"messages": {"7": "x"}}}}, 400, "AD0020"),
    ({"turns": {"3": {"messages": {"0": "Novel?"}}}}, 400, "AD0020"),  # as it was
    ({"from": 4, "turns": {"3": {"model": OTHER}}}, 400, "AD0020"),  # it would be kept
    ({"turns": {"3": {"messages": {"0": "x" * 9_000_000}}}}, 413, "AD0021"),
    ({"turns": {"3": {}}}, 422, ""),
    ({"turns": {"3": {"model": ""}}}, 422, ""),
    ({"turns": {"3": {"messages": {"0": 7}}}}, 422, ""),
    ({"turns": {"3": {"prompt": "x"}}}, 422, ""),
]


async def test_what_cannot_be_edited_is_refused_and_nothing_begins(desk: Desk):
    old = await desk.ask(handler="rate")
    run = await shown(desk, old)
    assert turns(run, "llm:Shelf") == [3], [row.get("name") for row in run["journal"]]
    for body, status, code in REFUSED:
        given = await desk.try_fork(old, **body)
        said = (body, given.text[:200])
        assert (given.status_code, given.headers.get("x-agentdur-error", "")) == (status, code), said
    listed = (await desk.http.get("/invocations")).json()["invocations"]
    assert [one["id"] for one in listed] == [old]
    assert len(desk.asked) == 1


def test_nobody_outside_says_what_a_run_does_otherwise():
    """The ingress takes the header away; that of another server is known by what it says of a request."""
    forged = msgspec.json.encode([{"what": "model", "of": "", "entry": 0, "step": "llm:x", "told": "",
                                   "model": OTHER}])  # fmt: skip
    kept = forwarded({EDITS.encode(): forged, b"x-user": b"ann"}, b"/Shelf/ask", b"")
    assert [name for name, _ in kept] == [FROM_OUTSIDE, "x-user"]
    assert edits_of(((FROM_OUTSIDE, "/Shelf/ask"), (EDITS, forged.decode()))) == ()
    assert edits_of(((EDITS, "nonsense"),)) == ()
    assert len(edits_of(((EDITS, forged.decode()), (FROM_OUTSIDE, "/Shelf/ask")))) == 1


async def test_a_handler_that_passes_its_headers_on_passes_on_no_edits(desk: Desk):
    old = await desk.ask(handler="rate")
    new = await desk.fork(old, turns={3: {"model": OTHER}})
    assert new["edits"]
    assert heard[-2:] == [{"content-type": "application/json"}] * 2


async def test_the_command_forks_by_prompt_model_and_result(desk: Desk, capsys: pytest.CaptureFixture[str]):
    async with served(create_admin(desk.stage.engine)) as url:

        async def told(*arguments: str) -> tuple[int, str]:
            code = await asyncio.to_thread(main, ["invocations", "--admin-url", url, *arguments])
            said = capsys.readouterr()
            return int(code), said.out + said.err

        old = await desk.ask()
        run = await shown(desk, old)
        first, second = turns(run)
        code, said = await told(
            "restart", old, "--turn", str(second), "--prompt", KIND, "--message", "1=Which?"
        )
        new = await desk.stage.until_status(said.split()[-1], "completed")
        assert (code, new["output"]) == (0, "Gladly. So I hear.")
        assert (await desk.told(new))[1:] == [[KIND, "Which?"], ["You are a friend.", "Which?"]]
        tool = next(row for row in run["journal"] if "is there" in str(row.get("value")))
        value = json.dumps({**tool["value"], "content": "gone"})
        _, said = await told("restart", old, "--result", f"{tool['index']}={value}", "--model", OTHER)
        new = await desk.stage.until_status(said.split()[-1], "completed")
        assert [(one["what"], one["entry"]) for one in new["edits"]] == [
            ("value", tool["index"]), ("model", second)
        ]  # fmt: skip
        assert "used" in (await told("describe", new["id"]))[1]
        for wrong in (
            ["--turn", str(first)], ["--turn", str(first), "--message", "x"], ["--result", "2=no json"],
            ["--prompt", "@/nowhere/at/all"], ["--turn", "0", "--prompt", "x"], ["--model", ""],
        ):  # fmt: skip
            code, said = await told("restart", old, *wrong)
            assert code != 0, (wrong, said)
        code, said = await told("restart", "--service", "Shelf", "--yes", "--model", OTHER)
        assert (code != 0, "AD0213" in said) == (True, True)


async def test_a_coding_agent_forks_by_prompt_and_model(desk: Desk):
    """By the tool of `agentdur mcp`."""
    old = await desk.ask()
    _, second = turns(await shown(desk, old))
    async with served(create_admin(desk.stage.engine)) as url:
        fork = partial(Tools(AdminApi(url)).fork_run, old, turn=second, model=OTHER, messages={"0": KIND})
        made = await asyncio.to_thread(fork)
    new = await desk.stage.until_status(made["new_run"], "completed")
    assert [one["what"] for one in new["edits"]] == ["message", "model"]
    assert (await desk.told(new))[1][0] == KIND


@pytest.mark.slow
async def test_a_crash_at_every_commit_asks_the_edited_turns_once(tmp_path: Path, llm: ScriptedLLM):
    """The engine dies at each commit of a fork, before it is made and after; what was being asked may be
    asked once more."""
    desk = Desk(Stage("memory", tmp_path), llm)
    seen = 0
    for after in (False, True):
        for limit in range(1, 60):
            desk.stage.fresh()
            committer = InlineCommitter(None, after)
            await desk.open(committer=lambda made=committer: made)
            old = await desk.ask()
            second = turns(await shown(desk, old))[1]
            asked, committer.limit = len(desk.asked), committer.count + limit
            forking = asyncio.ensure_future(
                desk.try_fork(old, turns={second: {"model": OTHER, "messages": {"1": "Which?"}}})
            )
            new = await came(desk, old, forking, committer)
            if committer.crashed.is_set():
                seen += 1
                forking.cancel()
                await desk.stage.crash()
                await desk.open(committer=InlineCommitter)
                new = await the_fork(desk, old)
            if new is None:
                assert (limit, after) == (1, False), "the fork itself was not committed"
                await desk.stage.close()
                continue
            run = await desk.stage.until_status(new, "completed")
            assert run["output"] == "Other says so. So I hear.", (limit, after)
            assert [edit["used"] for edit in run["edits"]] == [True, True]
            assert [told[1] for told in await desk.told(run)] == ["Novel?", "Which?", "Which?"]
            again = len(desk.asked) - asked - 2
            assert 0 <= again <= committer.crashed.is_set(), (limit, after)
            await desk.stage.close()
            if not committer.crashed.is_set():
                break
    assert seen >= 8
    await desk.http.aclose()


async def the_fork(desk: Desk, old: str) -> str | None:
    listed = (await desk.http.get("/invocations?limit=10")).json()["invocations"]
    return next((one["id"] for one in listed if one.get("restarted_from") == old), None)


async def came(desk: Desk, old: str, forking: asyncio.Future[Any], committer: InlineCommitter) -> str | None:
    """The id of the fork that has ended; None when the engine died."""

    async def end() -> str:
        id: str = (await forking).json()["new_invocation_id"]
        await desk.stage.until_status(id, "completed")
        return id

    ending = asyncio.ensure_future(end())
    crash = asyncio.ensure_future(committer.crashed.wait())
    await asyncio.wait({ending, crash}, return_when=asyncio.FIRST_COMPLETED)
    crash.cancel()
    if committer.crashed.is_set():
        ending.cancel()
        return None
    return await ending
