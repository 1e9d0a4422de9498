"""What the two OpenAI dialects share: errors in their shape, usage, and text that is sent once.

Rules of this file:
1. A client of these dialects has no way to take text back. What was sent for a model call that failed is
   owed: the next text has to say the same again, and is sent from where it goes on. If it says something
   else, the client is told by an error, and may ask again: the answer is kept.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from agentdur.llm import Usage
from agentdur.sessions.errors import BadMessage, StreamVoided
from agentdur.sessions.words import Reply

SEPARATOR = "\n\n"
"""Between the texts of two model calls of one turn."""
FINISH_REASONS = frozenset({"stop", "length", "content_filter"})
_TYPES = {401: "authentication_error", 429: "rate_limit_error"}


def spelled(status: int, code: str, message: str, _: str) -> dict[str, Any]:
    """An error in OpenAI's shape."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    name = "model_not_found" if code == "AD0149" else code or None
    return {"error": {"message": message, "type": kind, "param": None, "code": name}}


def finish_reason(reply: Reply) -> str:
    """Why the answer ended, in words that clients of this dialect know: tools run here."""
    return reply.finish_reason if reply.finish_reason in FINISH_REASONS else "stop"


def chat_usage(usage: Usage) -> dict[str, Any]:
    """Usage as chat completions tell it."""
    return {
        "prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }  # fmt: skip


def session_of(request: Request, session_id: str | None, metadata: dict[str, Any] | None) -> str:
    """The session a request names: in its body, its metadata, or a header; empty when none."""
    named = session_id or (metadata or {}).get("session") or request.headers.get("x-session-id") or ""
    if not isinstance(named, str):
        raise BadMessage("metadata.session: the id of a session is text")
    return named


class Said:
    """The text that was sent of one run of an agent, and what of it has to be said again."""

    def __init__(self, separator: str = SEPARATOR) -> None:
        self._separator = separator
        self.text = ""
        """All that counts, the texts of several model calls apart."""
        self.last = ""
        """Of the model call that speaks."""
        self._run = -1
        self._owed = ""

    def hear(self, run: int, delta: str) -> str:
        """What is to be sent of a delta. StreamVoided when it contradicts what was sent."""
        if self._owed:
            common = min(len(delta), len(self._owed))
            if delta[:common] != self._owed[:common]:
                raise StreamVoided("a model call failed after a part of its answer was sent")
            self._owed, delta, self.last = self._owed[common:], delta[common:], self.last + delta[:common]
            self._run = run
            if not delta:
                return ""
        new = ""
        if run != self._run:
            self._run, self.last = run, ""
            new = self._separator if self.text else ""
        self.last += delta
        self.text += new + delta
        return new + delta

    def void(self, run: int) -> None:
        """What this run has said does not count."""
        if run == self._run and self.last:
            self._owed, self.last = self.last + self._owed, ""

    def forget(self, run: int) -> None:
        """The client has dropped what this run said: nothing is owed."""
        if run == self._run:
            self.text, self.last, self._run = self.text.removesuffix(self.last), "", -1

    @property
    def owing(self) -> bool:
        """Something has to be said again."""
        return bool(self._owed)

    def rest(self, reply: Reply) -> str:
        """What is still to be sent when the answer is there."""
        if self._owed:
            new = self.hear(self._run, reply.text)
            if self._owed:
                raise StreamVoided("the answer is shorter than what was sent of it")
            return new
        if not reply.text or self.last == reply.text:
            return ""
        return self.hear(-2, reply.text)
