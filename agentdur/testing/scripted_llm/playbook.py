"""Which turn answers a request, and which fault strikes first.

Rules of this file:
1. The turn depends on the request alone.
2. A fault's count is per conversation unless the script says otherwise, so that two agents which run the same
   script at the same time both see it, in whatever order they arrive.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from agentdur.testing.scripted_llm.exchange import REQUEST_BYTES_MAX
from agentdur.testing.scripted_llm.script import (
    AddedFaults,
    Fault,
    Script,
    ScriptError,
    Turn,
    When,
    sequences,
)

SYSTEM_ROLES = ("system", "developer")


class BadRequest(Exception):
    """The body is no chat completion request this server can answer."""


class NoTurn(Exception):
    """The script has no turn for this conversation."""


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a chat completion request that matters here; everything else is accepted and ignored."""

    model: str
    messages: list[dict[str, Any]]
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    n: int | None = None

    @property
    def include_usage(self) -> bool:
        return bool((self.stream_options or {}).get("include_usage"))


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The turn that answers a request, and the fault that strikes instead, if any."""

    index: int
    turn: Turn
    fault: Fault | None


def parse_request(body: bytes) -> ChatRequest:
    """Read a request; refuses what is too large, has no model or messages, or asks for several choices."""
    if len(body) > REQUEST_BYTES_MAX:
        raise BadRequest(f"the request has more than {REQUEST_BYTES_MAX} bytes")
    try:
        request = msgspec.json.decode(body, type=ChatRequest)
    except msgspec.DecodeError as broken:
        raise BadRequest(str(broken)) from broken
    if not request.messages:
        raise BadRequest("messages must not be empty")
    if request.n not in (None, 1):
        raise BadRequest(f"n is {request.n}; this server gives one choice")
    return request


def messages_sha256(request: ChatRequest) -> str:
    """The digest of the conversation, the same for every spelling of the same JSON."""
    return hashlib.sha256(msgspec.json.encode(request.messages, order="sorted")).hexdigest()


class Playbook:
    """A script in play: it knows how often each fault has struck."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self._sequences = sequences(script)
        self._added: list[AddedFaults] = []
        self._struck: Counter[tuple[str, int, int, str]] = Counter()

    def add_faults(self, added: AddedFaults) -> None:
        """From now on these faults strike before those of the script."""
        last = len(self.script.turns) - 1
        if added.turn is not None and added.turn > last:
            raise ScriptError(f"there is no such turn, the last one is turn {last}", turn=added.turn)
        self._added.append(added)

    def choose(self, request: ChatRequest, digest: str) -> Choice:
        """The turn for this request; a fault that is due is used up. Raises NoTurn."""
        index = self._turn_index(request)
        turn = self.script.turns[index]
        return Choice(index=index, turn=turn, fault=self._due(index, turn, digest))

    def _turn_index(self, request: ChatRequest) -> int:
        count = _assistant_messages(request, since_last_user=self.script.count == "since_last_user")
        when = next((when for when in self._sequences if when is not None and _holds(when, request)), None)
        sequence = self._sequences.get(when)
        if sequence is None:
            raise NoTurn("no `when` of the script holds for this request, and every turn has one")
        if count in sequence:
            return sequence[count]
        last = max(sequence)
        if count > last and self.script.after_last == "repeat":
            return sequence[last]
        answered = ", ".join(map(str, sorted(sequence)))
        raise NoTurn(f"the conversation has {count} assistant messages; this sequence answers {answered}")

    def _due(self, index: int, turn: Turn, conversation: str) -> Fault | None:
        candidates = [
            ("added", number, position, fault)
            for number, added in enumerate(self._added)
            if added.turn in (None, index)
            for position, fault in enumerate(added.faults)
        ]
        candidates += [("script", index, position, fault) for position, fault in enumerate(turn.faults)]
        for source, number, position, fault in candidates:
            if fault.times is None:
                return fault
            key = (source, number, position, conversation if fault.per == "conversation" else "")
            if self._struck[key] < fault.times:
                self._struck[key] += 1
                return fault
        return None


def _holds(when: When, request: ChatRequest) -> bool:
    if when.model is not None and when.model != request.model:
        return False
    if when.last_user is not None:
        spoken = [_text(message) for message in request.messages if message.get("role") == "user"]
        if not spoken or when.last_user not in spoken[-1]:
            return False
    if when.system is not None:
        prompts = [_text(message) for message in request.messages if message.get("role") in SYSTEM_ROLES]
        return when.system in "\n".join(prompts)
    return True


def _assistant_messages(request: ChatRequest, *, since_last_user: bool) -> int:
    count = 0
    for message in request.messages:
        if message.get("role") == "assistant":
            count += 1
        elif message.get("role") == "user" and since_last_user:
            count = 0
    return count


def _text(message: Mapping[str, Any]) -> str:
    """The text of a message, whether its content is a string or a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str))
