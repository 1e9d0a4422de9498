"""Sessions over HTTP: messages, streams, errors."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentdur import ObjectContext
from agentdur.sdk.stream import stream
from agentdur.sessions import chat
from agentdur.sessions.words import Message
from tests.sessions.site import Event, Site, site
from tests.sessions.talk import Desk
from tests.support.stage import Stage, until

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)


class Speaker:
    """Streams its answer word by word, each when it is let."""

    def __init__(self, words: int = 3) -> None:
        self.words, self.runs = words, 0
        self.go = asyncio.Semaphore(0)
        self.said = 0

    def let(self, count: int = 1) -> None:
        for _ in range(count):
            self.go.release()

    async def __call__(self, ctx: ObjectContext, messages: list[Message]) -> str:
        async def speak() -> str:
            self.runs += 1
            text = ""
            for number in range(self.words):
                await self.go.acquire()
                word = f"{messages[-1]['content']}{number} "
                stream({"type": "text", "delta": word})
                self.said += 1
                text += word
            return text

        return str(await ctx.run("speak", speak))


def text_of(events: list[Event]) -> str:
    """What a reader holds at the end: void runs dropped."""
    runs: dict[tuple[Any, int], str] = {}
    turn = None
    for event in events:
        kind, data = event["event"], event["data"]
        if kind == "turn":
            turn = data["turn"]
        elif kind == "chunk":
            place = (event["id"].partition("/")[0] if "/" in event["id"] else turn, data["run"])
            runs[place] = runs.get(place, "") + data["data"]["delta"]
        elif kind == "void":
            place = (event["id"].partition("/")[0] if "/" in event["id"] else turn, data["run"])
            runs.pop(place, None)
    return "".join(runs.values())


async def test_a_message_is_answered(stage: Stage):
    talk = chat(Desk(), name="Desk")
    async with site(stage, talk) as web:
        answer = await web.http.post("/sessions/Desk/s/messages", json={"content": "hello", "id": "m1"})
        assert answer.status_code == 200
        assert answer.headers["x-restate-id"].startswith("inv_")
        assert (answer.json()["text"], answer.json()["status"]) == ("heard hello", "completed")
        again = await web.http.post("/sessions/Desk/s/messages", json={"content": "hello", "id": "m1"})
        assert again.json() == answer.json()
        shown = (await web.http.get("/sessions/Desk/s/messages")).json()
        assert [m["message"]["content"] for m in shown["messages"]] == ["hello", "heard hello"]
        about = (await web.http.get("/sessions/Desk/s")).json()
        assert (about["title"], about["messages"], about["turns"]) == ("hello", 2, 1)


@IN_MEMORY
@pytest.mark.parametrize(
    ("path", "headers"), [("?wait=false", {}), ("", {"prefer": "respond-async"})], ids=["query", "header"]
)
async def test_a_message_is_accepted_without_waiting(stage: Stage, path: str, headers: dict[str, str]):
    desk = Desk()
    desk.hold()
    async with site(stage, chat(desk, name="Desk")) as web:
        answer = await web.http.post(
            f"/sessions/Desk/s/messages{path}", json={"content": "a"}, headers=headers
        )
        assert answer.status_code == 202
        desk.open.set()
        reply = await web.http.get(f"/restate/invocation/{answer.json()['invocation']}/attach")
        assert reply.json()["text"] == "heard a"


@IN_MEMORY
async def test_a_history_is_read_in_pages(stage: Stage):
    async with site(stage, chat(Desk(), name="Desk")) as web:
        for number in range(3):
            await web.http.post("/sessions/Desk/s/messages", json={"content": f"m{number}"})
        texts, after = [], -1
        while after is not None:
            page = (await web.http.get(f"/sessions/Desk/s/messages?limit=4&after={after}")).json()
            assert len(page["messages"]) <= 4
            texts += [m["message"]["content"] for m in page["messages"]]
            after = page["after"]
        assert texts == ["m0", "heard m0", "m1", "heard m1", "m2", "heard m2"]


@IN_MEMORY
async def test_edited_regenerated_and_deleted(stage: Stage):
    async with site(stage, chat(Desk(), name="Desk")) as web:
        await web.http.post("/sessions/Desk/s/messages", json={"content": "a", "id": "m1"})
        edited = await web.http.put("/sessions/Desk/s/messages/m1", json={"content": "b"})
        assert edited.json()["text"] == "heard b"
        again = await web.http.post("/sessions/Desk/s/regenerate")
        assert again.json()["text"] == "heard b"
        audit = (await web.http.get("/sessions/Desk/s/messages?audit=true")).json()["messages"]
        assert [m.get("dropped", False) for m in audit] == [True, True, False, True, False]
        assert (await web.http.delete("/sessions/Desk/s")).json() == {"deleted": True}
        assert (await web.http.delete("/sessions/Desk/s")).status_code == 404


@IN_MEMORY
async def test_deleted_at_work_it_is_stopped_first(stage: Stage):
    desk = Desk()
    async with site(stage, chat(desk, name="Desk")) as web:
        desk.hold()
        posted = await web.http.post("/sessions/Desk/s/messages?wait=false", json={"content": "a"})
        await desk.began.wait()
        assert (await web.http.delete("/sessions/Desk/s")).status_code == 200
        reply = await web.http.get(f"/restate/invocation/{posted.json()['invocation']}/attach")
        assert reply.json()["status"] == "interrupted"


@IN_MEMORY
@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),  # one request each
    [
        ("GET", "/sessions/Nobody/s", b"", 404, "AD0149"),
        ("GET", "/sessions/Desk/none", b"", 404, "AD0146"),
        ("GET", "/sessions/Desk/none/messages", b"", 404, "AD0146"),
        ("GET", "/sessions/Desk/none/stream", b"", 404, "AD0146"),
        ("DELETE", "/sessions/Desk/none", b"", 404, "AD0146"),
        ("POST", "/sessions/Desk/none/regenerate", b"", 404, "AD0146"),
        ("POST", "/sessions/Desk/none/stop", b"", 404, "AD0146"),
        ("POST", "/sessions/Nobody/s/messages", b'{"content": "a"}', 404, "AD0149"),
        ("POST", "/sessions/Desk/s/messages", b"", 400, "AD0148"),
        ("POST", "/sessions/Desk/s/messages", b"nonsense", 400, "AD0148"),
        ("POST", "/sessions/Desk/s/messages", b'{"content": ""}', 400, "AD0148"),
        ("POST", "/sessions/Desk/s/messages", b'{"content": 5}', 400, "AD0148"),
        ("POST", "/sessions/Desk/s/messages", b'{"content": "a", "polcy": "steer"}', 400, "AD0148"),
        ("POST", "/sessions/Desk/s/messages", b'{"content": "a", "policy": "later"}', 400, "AD0148"),
        ("POST", "/sessions/Desk/s/messages", b'{"content":"a","settings":{"api_base":"x"}}', 400, "AD0148"),
        ("POST", "/sessions/Desk/s/messages", b'{"content": "\xff"}', 400, "AD0148"),
        ("PUT", "/sessions/Desk/there/messages/nobody", b'{"content": "a"}', 404, "AD0147"),
        ("GET", "/sessions/Desk/there/messages?limit=many", b"", 400, "AD0148"),
        ("GET", "/sessions/Desk/there/stream?after=yesterday", b"", 400, "AD0148"),
        ("GET", "/sessions/Desk/there/stream?after=1/yesterday", b"", 400, "AD0148"),
        ("GET", "/sessions?agent=Nobody", b"", 404, "AD0149"),
    ],
)  # fmt: skip
async def test_what_cannot_be_served_is_answered_with_a_code(
    stage: Stage, *, method: str, path: str, body: bytes, status: int, code: str
):
    async with site(stage, chat(Desk(), name="Desk")) as web:
        await web.http.post("/sessions/Desk/there/messages", json={"content": "a"})
        answer = await web.http.request(method, path, content=body)
        assert (answer.status_code, answer.json().get("error")) == (status, code), answer.text
        assert answer.json()["code"] == status


async def test_sessions_are_listed_page_by_page(stage: Stage):
    async with site(stage, chat(Desk(), name="A"), chat(Desk(), name="B")) as web:
        for place in ("A/x", "A/y", "B/x", "B/z"):
            await web.http.post(f"/sessions/{place}/messages", json={"content": place})
        found, after = [], ""
        while after is not None:
            page = (await web.http.get("/sessions", params={"limit": 3, "after": after})).json()
            found += [(one["agent"], one["id"], one["title"]) for one in page["sessions"]]
            after = page["after"]
        assert found == [("A", "x", "A/x"), ("A", "y", "A/y"), ("B", "x", "B/x"), ("B", "z", "B/z")]
        only = (await web.http.get("/sessions?agent=B")).json()["sessions"]
        assert [one["id"] for one in only] == ["x", "z"]


@IN_MEMORY
async def test_a_busy_session_is_answered_with_409(stage: Stage):
    desk = Desk()
    async with site(stage, chat(desk, name="Desk")) as web:
        desk.hold()
        await web.http.post("/sessions/Desk/s/messages?wait=false", json={"content": "a"})
        await desk.began.wait()
        busy = await web.http.post("/sessions/Desk/s/messages", json={"content": "b", "policy": "reject"})
        assert (busy.status_code, busy.json()["error"]) == (409, "AD0145")
        assert (await web.http.post("/sessions/Desk/s/stop")).json() == {"stopped": True}


class Reader:
    """Reads events in the background; may stop, and go on where it stopped."""

    def __init__(self, web: Site, method: str, path: str, **how: Any) -> None:
        self.web, self.method, self.path, self.how = web, method, path, how
        self.events: list[Event] = []
        self.begin()

    def begin(self, web: Site | None = None) -> None:
        self.web = web or self.web
        self.task = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        headers = {"last-event-id": self.last} if self.last else {}
        async for event in self.web.events(self.method, self.path, headers=headers, **self.how):
            self.events.append(event)

    @property
    def last(self) -> str:
        return next((event["id"] for event in reversed(self.events) if "id" in event), "")

    def count(self, kind: str) -> int:
        return sum(event["event"] == kind for event in self.events)

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})


async def test_an_answer_is_read_while_it_is_made(stage: Stage):
    speaker = Speaker()
    async with site(stage, chat(speaker, name="Talk")) as web:
        reader = Reader(web, "POST", "/sessions/Talk/s/messages", json={"content": "w"})
        for number in range(1, 4):
            speaker.let()
            await until(lambda n=number: reader.count("chunk") == n)
        await reader.task
        assert text_of(reader.events) == "w0 w1 w2 "
        assert reader.events[-1]["data"]["data"]["value"]["text"] == "w0 w1 w2 "


async def test_a_client_that_leaves_in_the_middle_leaves_the_turn_at_work(stage: Stage):
    speaker = Speaker()
    talk = chat(speaker, name="Talk")
    async with site(stage, talk) as web:
        reader = Reader(web, "POST", "/sessions/Talk/s/messages", json={"content": "w", "id": "m1"})
        speaker.let()
        await until(lambda: reader.count("chunk") == 1)
        await reader.leave()
        speaker.let(2)
        answer = await web.http.post("/sessions/Talk/s/messages", json={"content": "w", "id": "m1"})
        assert (answer.json()["text"], answer.json()["status"]) == ("w0 w1 w2 ", "completed")
        assert speaker.runs == 1


async def test_a_stream_goes_on_over_turns_and_broken_connections(stage: Stage):
    """A reader that leaves after every event and comes back with its id ends with both answers, once each."""
    speaker = Speaker(2)
    async with site(stage, chat(speaker, name="Talk")) as web:
        post = {"json": {"content": "a"}, "params": {"wait": "false"}}
        await web.http.post("/sessions/Talk/s/messages", **post)
        reader = Reader(web, "GET", "/sessions/Talk/s/stream")
        for number in range(1, 3):
            speaker.let()
            await until(lambda n=number: speaker.said == n)
            await until(lambda: reader.events)
            await reader.leave()
            reader.begin()
        await until(lambda: reader.count("end") == 1)
        await reader.leave()
        await web.http.post("/sessions/Talk/s/messages", json={"content": "b"}, params={"wait": "false"})
        reader.begin()
        speaker.let(2)
        await until(lambda: reader.count("end") == 2)
        await reader.leave()
        assert text_of(reader.events) == "a0 a1 b0 b1 "
        assert [e["data"]["turn"] for e in reader.events if e["event"] == "turn"] == [1, 2]


async def test_a_stream_goes_on_after_the_server_was_started_anew(stage: Stage):
    speaker = Speaker(2)
    talk = chat(speaker, name="Talk")
    async with site(stage, talk) as web:
        port = int(web.url.rpartition(":")[2])
        await web.http.post("/sessions/Talk/s/messages?wait=false", json={"content": "a"})
        reader = Reader(web, "GET", "/sessions/Talk/s/stream")
        speaker.let()
        await until(lambda: reader.count("chunk") == 1)
        await stage.crash()
        await reader.leave()
    speaker.let(2)
    async with site(stage, talk, port=port) as web:
        reader.begin(web)
        await until(lambda: reader.count("end") == 1)
        await reader.leave()
    assert reader.count("void") == 1
    assert text_of(reader.events) == "a0 a1 "


async def test_interrupted_what_was_said_until_then_is_kept_and_told(stage: Stage):
    speaker = Speaker(3)
    talk = chat(speaker, name="Talk", policy="interrupt")
    async with site(stage, talk) as web:
        reader = Reader(web, "POST", "/sessions/Talk/s/messages", json={"content": "a"})
        speaker.let(2)
        await until(lambda: text_of(reader.events) == "a0 a1 ")
        second = Reader(web, "POST", "/sessions/Talk/s/messages", json={"content": "b"})
        await reader.task
        assert text_of(reader.events) == "a0 a1 "
        end = reader.events[-1]["data"]["data"]["value"]
        assert (end["status"], end["text"]) == ("interrupted", "a0 a1 ")
        speaker.let(3)
        await second.task
        shown = (await web.http.get("/sessions/Talk/s/messages")).json()["messages"]
        assert [(m["message"]["content"], m.get("partial", False)) for m in shown] == [
            ("a", False), ("a0 a1 ", True), ("b", False), ("b0 b1 b2 ", False),
        ]  # fmt: skip
