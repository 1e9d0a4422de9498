"""A turn in the words of OpenAI's Responses API.

Rules of this file:
1. The same turn is told in the same numbers, live and from the journal, however its deltas were cut: a number
   counts one for an event, and one per character for a delta. So a reader may come back anywhere.
2. Tools run here: a call is an item of type `mcp_call`, told when its answer is there, in the order of calls.
3. While somebody is asked for an approval and nothing else is at work, the response is complete, with an
   `mcp_approval_request` as its last item. What comes after the answer is another response, which leaves out
   the items that were told.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from agentdur.llm import Usage
from agentdur.sdk.exceptions import TerminalError
from agentdur.sessions.errors import StreamVoided, code_of
from agentdur.sessions.narration import Item
from agentdur.sessions.openai_words import Said
from agentdur.sessions.words import Reply

Event = dict[str, Any]
LABEL = "agentdur"
"""The server that tools are shown to run on."""
ERROR_STATUSES = ("failed", "cancelled")


class Teller:
    """Makes events of items. `skip`: output items that an earlier response of the same turn has told."""

    def __init__(self, base: dict[str, Any], skip: int = 0) -> None:
        self.base, self.skip = base, skip
        self.output: list[dict[str, Any]] = []
        self.asked: dict[str, str] = {}
        """Calls that wait for a person, and their approvals."""
        self._told = 0  # output items, those that are skipped included
        self._number = 0
        self._said = Said(separator="")
        self._open: dict[str, Any] | None = None  # the item that grows
        self._run: int | None = None
        self._heard: dict[str, tuple[str, str]] = {}  # calls of a run that is not committed
        self._calls: dict[str, tuple[str, str]] = {}  # without an answer, in their order
        self._answers: dict[str, dict[str, Any]] = {}
        self._waiting: dict[int, list[dict[str, Any]]] = {}  # answers of runs that are not committed

    @property
    def waits(self) -> bool:
        """Somebody is asked, and nothing else is at work."""
        return bool(self.asked) and self._calls.keys() <= self.asked.keys()

    @property
    def told(self) -> int:
        """How many output items of the turn were told, up to here."""
        return self._told

    def response(self, status: str, **more: Any) -> dict[str, Any]:
        """The response as it is now."""
        return {**self.base, "status": status, "output": list(self.output), **more}

    def begin(self) -> Iterator[Event]:
        """The first events."""
        yield self._event("response.created", response=self.response("in_progress"))
        yield self._event("response.in_progress", response=self.response("in_progress"))

    def tell(self, item: Item) -> Iterator[Event]:
        """The events of one item."""
        match item.kind:
            case "text":
                yield from self._text(item.run, item.data["delta"])
            case "reasoning":
                yield from self._grow("reasoning", item.run, item.data["delta"])
            case "tool_call":
                id = item.data["id"]
                name, text = self._heard.get(id, (item.data["name"], ""))
                self._heard[id] = (name, text + item.data["delta"])
                self._run = item.run
            case "tool_result":
                self._waiting.setdefault(item.run, []).append(item.data)
                if item.run == 0:
                    yield from self._committed(0)
            case "approval":
                yield from self._ask(item.data)
            case "commit":
                yield from self._committed(item.run)
            case "void":
                self._void(item.run)
            case "end":
                yield from self._end(item.data)
            case _:
                return

    # -- what is said

    def _text(self, run: int, delta: str) -> Iterator[Event]:
        new = self._said.hear(run, delta)
        if new:
            yield from self._grow("message", run, new)

    def _grow(self, kind: str, run: int, delta: str) -> Iterator[Event]:
        self._run = run
        if self._open is None or self._open["type"] != kind or self._open["run"] != run:
            yield from self._close()
            yield from self._begin_item(kind, run)
        assert self._open is not None
        self._open["text"] += delta
        where = self._where(self._open["index"], 0)
        name = "output_text" if kind == "message" else "reasoning_text"
        more: dict[str, Any] = {"logprobs": []} if kind == "message" else {}
        yield from self._delta(f"response.{name}.delta", delta, **where, **more)

    def _begin_item(self, kind: str, run: int) -> Iterator[Event]:
        index = self._told
        self._told += 1
        self._open = {"type": kind, "run": run, "text": "", "index": index}
        yield from self._shown(
            "response.output_item.added", index, item=self._item(kind, index, "", "in_progress")
        )
        if kind == "message":
            yield from self._shown("response.content_part.added", index, content_index=0, part=_text_part(""))

    def _close(self) -> Iterator[Event]:
        if self._open is None:
            return
        kind, index, text = self._open["type"], self._open["index"], self._open["text"]
        self._open = None
        if kind == "message":
            yield from self._shown(
                "response.output_text.done", index, content_index=0, text=text, logprobs=[]
            )
            yield from self._shown(
                "response.content_part.done", index, content_index=0, part=_text_part(text)
            )
        else:
            yield from self._shown("response.reasoning_text.done", index, content_index=0, text=text)
        yield from self._done(index, self._item(kind, index, text, "completed"))

    def _item(self, kind: str, index: int, text: str, status: str) -> dict[str, Any]:
        if kind == "message":
            content = [_text_part(text)] if status == "completed" else []
            about = {"type": "message", "role": "assistant", "status": status, "content": content}
            return {"id": self._id("msg", index), **about}
        content = [{"type": "reasoning_text", "text": text}] if text else []
        return {"id": self._id("rs", index), "type": "reasoning", "summary": [], "content": content}

    # -- what is done

    def _committed(self, run: int) -> Iterator[Event]:
        if run == self._run and run != 0:
            yield from self._close()
            self._calls |= self._heard
            self._heard = {}
        for answer in self._waiting.pop(run, ()):
            self._answers[answer["id"]] = answer
            self._calls.setdefault(answer["id"], (answer["name"], "{}"))
            self.asked.pop(answer["id"], None)
        for id in list(self._calls):
            if id not in self._answers:
                break  # told in their order
            name, arguments = self._calls.pop(id)
            yield from self._call(name, arguments, self._answers.pop(id))

    def _call(self, name: str, arguments: str, answer: dict[str, Any]) -> Iterator[Event]:
        yield from self._close()
        index = self._told
        self._told += 1
        failed, content = bool(answer.get("failed")), str(answer["content"])
        item: dict[str, Any] = {
            "id": self._id("mcp", index), "type": "mcp_call", "server_label": LABEL, "name": name,
            "arguments": "", "output": None, "error": None, "status": "in_progress",
            "approval_request_id": None,
        }  # fmt: skip
        yield from self._shown("response.output_item.added", index, item=item)
        yield from self._shown("response.mcp_call.in_progress", index)
        yield from self._shown("response.mcp_call_arguments.done", index, arguments=arguments)
        yield from self._shown(f"response.mcp_call.{'failed' if failed else 'completed'}", index)
        outcome = {"error": content} if failed else {"output": content}
        status = "failed" if failed else "completed"
        yield from self._done(index, {**item, "arguments": arguments, "status": status, **outcome})

    def _ask(self, chunk: dict[str, Any]) -> Iterator[Event]:
        yield from self._close()
        index = self._told
        self._told += 1
        self.asked[chunk.get("call") or chunk["id"]] = chunk["id"]
        payload = chunk.get("payload")
        if chunk.get("tool") and isinstance(payload, dict):
            payload = payload.get("arguments", payload)
        item = {
            "id": chunk["id"], "type": "mcp_approval_request", "server_label": LABEL,
            "name": chunk.get("tool") or chunk["question"],
            "arguments": msgspec.json.encode(payload).decode(),
        }  # fmt: skip
        yield from self._shown("response.output_item.added", index, item=item)
        yield from self._done(index, item)

    def _void(self, run: int) -> None:
        self._waiting.pop(run, None)
        if run != self._run:
            return
        self._heard = {}
        seen = self._open is not None and self._open["index"] >= self.skip and self._open["text"]
        if not seen:
            self._said.forget(run)
        elif self._open is not None and self._open["type"] == "message":
            self._said.void(run)
        else:
            raise StreamVoided("a model call failed after a part of its answer was sent")

    # -- the end

    def pause(self) -> Iterator[Event]:
        """The end of a response whose turn waits for a person."""
        yield from self._close()
        yield self._event("response.completed", response=self.response("completed", usage=_usage(Usage())))

    def _end(self, outcome: Reply | TerminalError) -> Iterator[Event]:
        if isinstance(outcome, TerminalError):
            yield from self._close()
            error = {"code": code_of(outcome) or "server_error", "message": outcome.message}
            yield self._event("response.failed", response=self.response("failed", error=error))
            return
        rest = self._said.rest(outcome)
        if rest:
            yield from self._grow("message", -2 if self._open is None else self._open["run"], rest)
        yield from self._close()
        status, more = ended(outcome)
        kind = "response.completed" if status == "completed" else "response.incomplete"
        yield self._event(kind, response=self.response(status, **more))

    # -- numbers

    def _id(self, kind: str, index: int) -> str:
        return f"{kind}_{self.base['agentdur']['invocation']}_{index}"

    def _where(self, index: int, content: int | None = None) -> dict[str, Any]:
        kind = "msg" if self._open is None or self._open["type"] == "message" else "rs"
        where = {"item_id": self._id(kind, index), "output_index": index - self.skip}
        return where if content is None else {**where, "content_index": content}

    def _shown(self, type: str, index: int, **fields: Any) -> Iterator[Event]:
        if index < self.skip:
            return
        where: dict[str, Any] = {"output_index": index - self.skip}
        if "item" not in fields:
            prefix = type.split(".")[1]
            where["item_id"] = self._id(_PREFIX.get(prefix, "msg"), index)
        yield self._event(type, **where, **fields)

    def _done(self, index: int, item: dict[str, Any]) -> Iterator[Event]:
        if index >= self.skip:
            self.output.append(item)
        yield from self._shown("response.output_item.done", index, item=item)

    def _event(self, type: str, **fields: Any) -> Event:
        self._number += 1
        return {"type": type, "sequence_number": self._number - 1, **fields}

    def _delta(self, type: str, delta: str, **fields: Any) -> Iterator[Event]:
        if fields["output_index"] >= 0:
            self._number += len(delta)
            yield {"type": type, "sequence_number": self._number - 1, "delta": delta, **fields}


_PREFIX = {"reasoning_text": "rs", "mcp_call": "mcp", "mcp_call_arguments": "mcp"}


def since(event: Event, after: int) -> Event | None:
    """What of an event comes after that number; None when all of it was sent."""
    number = event["sequence_number"]
    if number <= after:
        return None
    delta = event.get("delta")
    if delta is None or number - len(delta) >= after:
        return event
    return {**event, "delta": delta[len(delta) - (number - after) :]}


def ended(reply: Reply) -> tuple[str, dict[str, Any]]:
    """Status, and what belongs to it."""
    more: dict[str, Any] = {"usage": _usage(reply.usage)}
    if reply.status == "interrupted":
        return "cancelled", more
    if reply.finish_reason in ("length", "content_filter"):
        reason = "max_output_tokens" if reply.finish_reason == "length" else "content_filter"
        return "incomplete", {**more, "incomplete_details": {"reason": reason}}
    return "completed", more


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }  # fmt: skip
