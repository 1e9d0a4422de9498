"""A turn in the words of the Vercel AI SDK's UI message stream.

Rules of this file:
1. A run of the agent's loop is a step; what it says are the parts of one message.
2. What was sent of a model call that failed is void. Clients of version 7 are told so (`reset-step`). On a
   stream that replays, everything is told again under another message id, which makes clients drop what they
   have. Others are owed the same text again, and an error if it comes out different.
3. While somebody is asked for an approval and nothing else is at work, the message is finished: clients
   answer between messages. What comes after the answer goes on with the same message.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

import msgspec

from agentdur.sdk.exceptions import TerminalError
from agentdur.sessions.errors import StreamVoided
from agentdur.sessions.narration import Item
from agentdur.sessions.openai_words import Said
from agentdur.sessions.words import Reply

Part = dict[str, Any]
_FINISH = {"stop": "stop", "length": "length", "content_filter": "content-filter"}


class Void(Enum):
    """How a client is told that something is void."""

    RESET_STEP = "reset-step"
    AGAIN = "again"
    OWED = "owed"


class TellAgain(Exception):
    """All of it has to be told anew, under another message id."""


class Shown:
    """What a client's message holds already: how many steps, and which calls have an output."""

    def __init__(self, steps: int = 0, calls: frozenset[str] = frozenset()) -> None:
        self.steps, self.calls = steps, calls


class Teller:
    """Makes parts of items."""

    def __init__(self, message_id: str, how: Void, shown: Shown | None = None) -> None:
        self.message_id, self.how, self.shown = message_id, how, shown or Shown()
        self._said = Said(separator="")
        self._run: int | None = None
        self._steps = 0
        self._open: tuple[str, str] | None = None  # kind and id of the part that grows
        self._parts = 0
        self._sent = False  # in this step, something that cannot be owed
        self._arguments: dict[str, tuple[str, str]] = {}  # of the step's calls: name, text
        self._owing: set[str] = set()  # calls without output, of all steps
        self.asked: dict[str, str] = {}
        """The calls that wait for a person, and their approvals."""
        self._results: dict[int, list[Part]] = {}  # by run, until it is committed

    def begin(self) -> Part:
        """The first part."""
        return {"type": "start", "messageId": self.message_id}

    @property
    def waits(self) -> bool:
        """Somebody is asked, and nothing else is at work."""
        return bool(self.asked) and self._owing <= self.asked.keys()

    def pause(self) -> Iterator[Part]:
        """The end of a message that will go on."""
        yield from self._close()
        yield {"type": "finish-step"}
        yield {"type": "finish", "finishReason": "tool-calls"}

    def tell(self, item: Item) -> Iterator[Part]:
        """The parts of one item."""
        match item.kind:
            case "text" | "reasoning" | "tool_call":
                yield from self._speak(item)
            case "tool_result":
                chunk = item.data
                self._results.setdefault(item.run, []).append(chunk)
                if item.run == 0:
                    yield from self._committed(0)
            case "approval":
                yield from self._ask(item.data)
            case "commit":
                yield from self._committed(item.run)
            case "void":
                yield from self._void(item.run)
            case "end":
                yield from self._end(item.data)
            case "status":
                yield {"type": "data-status", "data": item.data, "transient": True}
            case _:
                yield {"type": f"data-{item.kind}", "data": item.data}

    # -- a step

    def _hidden(self) -> bool:
        return self._steps <= self.shown.steps

    def _speak(self, item: Item) -> Iterator[Part]:
        if item.run != self._run:
            yield from self._step(item.run)
        chunk = item.data
        if item.kind == "text":
            new = self._said.hear(item.run, chunk["delta"])
            if new and not self._hidden():
                yield from self._grow("text", new)
            return
        self._sent = True
        if item.kind == "reasoning":
            if not self._hidden():
                yield from self._grow("reasoning", chunk["delta"])
            return
        id, name = chunk["id"], chunk["name"]
        if id not in self._arguments:
            self._arguments[id] = (name, "")
            if not self._hidden():
                yield from self._close()
                yield {
                    "type": "tool-input-start", "toolCallId": id, "toolName": name, "providerExecuted": True,
                }  # fmt: skip
        self._arguments[id] = (name, self._arguments[id][1] + chunk["delta"])
        if chunk["delta"] and not self._hidden():
            yield {"type": "tool-input-delta", "toolCallId": id, "inputTextDelta": chunk["delta"]}

    def _step(self, run: int) -> Iterator[Part]:
        yield from self._close()
        if self._run is not None and not self._hidden():
            yield {"type": "finish-step"}
        self._run, self._steps, self._sent, self._arguments = run, self._steps + 1, False, {}
        if not self._hidden():
            yield {"type": "start-step"}

    def _grow(self, kind: str, delta: str) -> Iterator[Part]:
        if self._open is None or self._open[0] != kind:
            yield from self._close()
            self._parts += 1
            self._open = (kind, f"{kind}-{self._parts}")
            yield {"type": f"{kind}-start", "id": self._open[1]}
        yield {"type": f"{kind}-delta", "id": self._open[1], "delta": delta}

    def _close(self) -> Iterator[Part]:
        if self._open is not None:
            kind, id = self._open
            self._open = None
            yield {"type": f"{kind}-end", "id": id}

    def _committed(self, run: int) -> Iterator[Part]:
        if run == self._run and run != 0:
            yield from self._close()
            for id, (name, text) in self._arguments.items():
                self._owing.add(id)
                if not self._hidden():
                    yield called(id, name, text)
        for chunk in self._results.pop(run, ()):
            id = chunk["id"]
            self.asked.pop(id, None)
            if id not in self._owing and id not in self.shown.calls:
                yield called(id, chunk["name"], "{}")
            self._owing.discard(id)
            if id not in self.shown.calls:
                yield answered(chunk)

    def _ask(self, chunk: dict[str, Any]) -> Iterator[Part]:
        call = chunk.get("call")
        if not call or call not in self._owing:
            yield {"type": "data-approval", "id": chunk["id"], "data": chunk}
            return
        self.asked[call] = chunk["id"]
        if call not in self.shown.calls and not self._hidden():
            yield {"type": "tool-approval-request", "approvalId": chunk["id"], "toolCallId": call}

    def _void(self, run: int) -> Iterator[Part]:
        self._results.pop(run, None)
        if run != self._run:
            return
        unseen = self._hidden() or not (self._sent or self._said.last)
        if unseen:
            self._said.forget(run)
        elif self.how is Void.AGAIN:
            raise TellAgain
        elif self.how is Void.RESET_STEP:
            self._said.forget(run)
            self._open = None
            yield {"type": "reset-step"}
        elif self._sent:
            raise StreamVoided("a model call failed after a part of its answer was sent")
        else:
            self._said.void(run)
        self._sent, self._arguments = False, {}

    # -- the end

    def _end(self, outcome: Reply | TerminalError) -> Iterator[Part]:
        if isinstance(outcome, TerminalError):
            yield from self._close()
            yield {"type": "error", "errorText": outcome.message}
            return
        rest = self._said.rest(outcome)
        if rest:
            if not self._said.owing and self._run != -2:
                yield from self._step(-2)
            yield from self._grow("text", rest)
        yield from self._close()
        if self._run is not None and not self._hidden():
            yield {"type": "finish-step"}
        if outcome.status == "interrupted":
            yield {"type": "abort", "reason": "interrupted"}
        yield {
            "type": "finish", "finishReason": _FINISH.get(outcome.finish_reason, "other"),
            "messageMetadata": metadata(outcome),
        }  # fmt: skip


def metadata(reply: Reply) -> dict[str, Any]:
    """What is told about an answer."""
    return {
        "turn": reply.turn, "status": reply.status, "agent": reply.agent, "cost": reply.cost,
        "usage": {
            "inputTokens": reply.usage.prompt_tokens, "outputTokens": reply.usage.completion_tokens,
            "totalTokens": reply.usage.total_tokens,
        },
    }  # fmt: skip


def called(id: str, name: str, text: str) -> Part:
    """A call whose arguments are complete."""
    part: Part = {
        "type": "tool-input-available",
        "toolCallId": id,
        "toolName": name,
        "providerExecuted": True,
    }
    try:
        part["input"] = msgspec.json.decode(text or "{}")
    except msgspec.DecodeError:
        part |= {"type": "tool-input-error", "input": text, "errorText": "the arguments are no JSON"}
    return part


def answered(chunk: dict[str, Any]) -> Part:
    """What a tool answered."""
    part: Part = {"toolCallId": chunk["id"], "providerExecuted": True}
    if chunk.get("failed"):
        return {"type": "tool-output-error", "errorText": chunk["content"], **part}
    return {"type": "tool-output-available", "output": plain(chunk["content"]), **part}


def plain(content: Any) -> Any:
    """The result of a tool: JSON where it is some, else the text."""
    if not isinstance(content, str):
        return content
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return content
