"""The same requests to a real Restate server and to ours, and what a client may rely on in their answers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from agentdur.core import journal as j
from agentdur.wire import messages as m
from agentdur.wire.codec import decode, encode
from agentdur.wire.frames import FrameReader
from tests.http.reference_server import free_ports, stop, wait_until_up

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = "application/vnd.restate.endpointmanifest.v4+json"
_ID = re.compile(r"\b(dp|inv|sub)_1[0-9A-Za-z]{22,33}\b")
_INSTANT = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z")
HANGS_SECONDS = 120


class Place:
    """An endpoint below a path of its own: what it says at discovery, and how often it was asked."""

    def __init__(self, manifest: Any) -> None:
        self.manifest = manifest
        self.status, self.kind = 200, MANIFEST
        self.headers: dict[str, str] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []


class Peer:
    """All endpoints, over HTTP/1.1. What a handler does is said by its name."""

    def __init__(self) -> None:
        self.places: dict[str, Place] = {}
        self.released: set[str] = set()
        """Names of places whose `held` handlers may end."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        _, name, *rest = scope["path"].split("/")
        place = self.places.get(name)
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if place is None:
            await _answer(send, 404, {}, b"")
            return
        headers = {key.decode(): value.decode() for key, value in scope["headers"]}
        query = scope["query_string"].decode()
        place.asked.append(("/".join(rest) + (f"?{query}" if query else ""), headers))
        if rest[:1] == ["discover"]:
            said = (
                place.manifest if isinstance(place.manifest, bytes) else json.dumps(place.manifest).encode()
            )
            kind = {"content-type": place.kind} if place.kind else {}
            await _answer(send, place.status, kind | place.headers, said)
            return
        if rest[:1] == ["serdes"]:
            status = 500 if name == "serdes500" else 200
            await _answer(send, status, {"content-type": headers.get("content-type", "?")}, body[::-1])
            return
        kind = headers["content-type"]
        version = int(kind.rpartition(".v")[2])
        frames = [decode(frame, version) for frame in FrameReader().feed(body)]
        if rest[-1] == "hang" and name not in self.released:
            await _gone(receive)
            return
        words = _words(rest[-1], frames, released=name in self.released)
        said = b"".join(encode(word, version) for word in words)
        await _answer(send, 200, {"content-type": kind, "x-restate-server": "peer/1"}, said)


async def _gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _words(handler: str, frames: list[Any], *, released: bool) -> list[m.Word]:
    """What the handler does in this attempt."""
    journal = frames[1:]
    done = [j.Output(result=j.Success(b'"done"')), m.End()]
    signals = [entry for entry in journal if isinstance(entry, j.Signal)]
    if any(entry.signal == j.CANCEL_SIGNAL for entry in signals):
        return [j.Output(result=j.Failure(409, "cancelled")), m.End()]
    match handler:
        case "wait" | "enter" if not released:
            return [m.Suspension(j.Awaiting(signals=(17, 1)))]
        case "fail" if not released:
            return [m.Error(code=500, message="not yet")]
        case "pause" if not released:
            return [m.Error(code=500, message="stop", behavior="pause")]
        case "refuse":
            return [j.Output(result=j.Failure(418, "no tea")), m.End()]
        case "steps":
            results = [entry for entry in journal if isinstance(entry, j.Completion)]
            begun = [entry for entry in journal if isinstance(entry, j.Run)]
            number = len(results) + 1
            if number > 2:
                return done
            run: list[m.Word] = [] if len(begun) == number else [j.Run(completion=number, name="step")]
            result = m.ProposeRunCompletion(number, j.Success(b"%d" % number))
            return [*run, result, m.Suspension(j.Awaiting(completions=(number,), signals=(1,)))]
        case _:
            return done


async def _answer(send: Any, status: int, headers: dict[str, str], body: bytes) -> None:
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


class Side:
    """One of the two servers, and the names it has given to what both of them have."""

    def __init__(self, admin: int, ingress: int, endpoint: str) -> None:
        self.admin = httpx.Client(base_url=f"http://127.0.0.1:{admin}", timeout=60)
        self.ingress = httpx.Client(base_url=f"http://127.0.0.1:{ingress}", timeout=60)
        self.endpoint = endpoint
        self.seen: list[str] = []
        """Ids, in the order of their first appearance."""
        self.story: list[Any] = []

    def ask(self, method: str, path: str, *, silent: bool = False, **given: Any) -> httpx.Response:
        """Ask, and keep what a client may rely on in the answer."""
        answer = self.admin.request(method, path, **given)
        if not silent:
            self.story.append((f"{method} {self._named(path)}", self.essence(answer)))
        return answer

    def register(self, place: str, *, prefix: str = "", silent: bool = False, **body: Any) -> httpx.Response:
        """Register the endpoint below that path."""
        given = {"uri": f"{self.endpoint}/{place}", "use_http_11": True, **body}
        return self.ask("POST", f"{prefix}/deployments", json=given, silent=silent)

    def send(self, path: str, **given: Any) -> str:
        """Begin an invocation, once the ingress knows the handler."""
        deadline = time.monotonic() + 30
        while (answer := self.ingress.post(path, **given)).status_code == 404 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["invocationId"])

    def essence(self, answer: httpx.Response) -> dict[str, Any]:
        """Status, kind, and the body without words that are each server's own."""
        kind = answer.headers.get("content-type", "").partition(";")[0]
        seen: dict[str, Any] = {"status": answer.status_code, "kind": kind}
        if location := answer.headers.get("location"):
            seen["location"] = self._named(location)
        if kind == "application/json":
            body = answer.json()
            if isinstance(body, dict) and set(body) == {"message", "restate_code"}:
                assert body["message"]
                body["message"] = "…"
            seen["body"] = _by_name(json.loads(self._named(json.dumps(body))))
        elif answer.content and not kind.startswith("text/"):
            seen["body"] = answer.content
        return seen

    def _named(self, text: str) -> str:
        text = _INSTANT.sub("<instant>", text)
        return _ID.sub(lambda found: self._name(found[0]), text)

    def _name(self, id: str) -> str:
        if id not in self.seen:
            self.seen.append(id)
        return f"{id[: id.index('_')]}#{self.seen.index(id)}"


def _by_name(value: Any) -> Any:
    """Lists of things with names have no order."""
    if isinstance(value, dict):
        return {name: _by_name(inner) for name, inner in value.items()}
    if isinstance(value, list):
        inner = [_by_name(each) for each in value]
        named = all(isinstance(each, dict) and "name" in each for each in inner)
        return sorted(inner, key=lambda each: each["name"]) if named else inner
    return value


class Both:
    """The two sides, and the endpoints they both use."""

    def __init__(self, theirs: Side, ours: Side, peer: Peer) -> None:
        self.theirs, self.ours, self.peer = theirs, ours, peer

    def __iter__(self) -> Iterator[Side]:
        return iter((self.theirs, self.ours))


@contextmanager
def restate(binary: str, folder: Path) -> Iterator[tuple[int, int]]:
    """A real server; yields its admin and its ingress port."""
    ingress, admin, node = free_ports(3)
    environment = os.environ | {
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
        "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
        "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{node}",
        "RESTATE_LISTEN_MODE": "tcp", "RESTATE_BASE_DIR": str(folder / "restate"),
        "RESTATE_DEFAULT_NUM_PARTITIONS": "1", "RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE": "256 MiB",
        "DO_NOT_TRACK": "1",
    }  # fmt: skip
    with _served([binary, "--node-name", "reference"], folder, environment, admin, ingress):
        yield admin, ingress


@contextmanager
def agentdur(folder: Path) -> Iterator[tuple[int, int]]:
    """A plain server of ours; yields its admin and its ingress port."""
    with agentdur_process(folder) as (_, admin, ingress):
        yield admin, ingress


@contextmanager
def agentdur_process(folder: Path, *settings: str) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """The same, and the process."""
    ingress, admin = free_ports(2)
    command = [
        sys.executable, "-m", "agentdur.cli", "serve", "--store", f"sqlite:///{folder}/store.db",
        "--ingress-port", str(ingress), "--admin-port", str(admin),
        *(word for setting in settings for word in ("--set", setting)),
    ]  # fmt: skip
    with _served(command, folder, dict(os.environ), admin, ingress) as process:
        yield process, admin, ingress


@contextmanager
def _served(
    command: list[str], folder: Path, environment: dict[str, str], admin: int, ingress: int
) -> Iterator[subprocess.Popen[bytes]]:
    with ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("ab"))
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        stack.callback(stop, process)
        wait_until_up(f"http://127.0.0.1:{admin}/health", f"http://127.0.0.1:{ingress}/restate/health")
        yield process
