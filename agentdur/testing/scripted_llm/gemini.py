"""Google's API: models/{model}:generateContent and :streamGenerateContent, plain and as server-sent events.

Rules of this file:
1. The playbook knows conversations in the shape of chat messages only; what of a content matters to it ends
   up there.
2. Calls have no ids, as Google's often have none; the model is named by the path.
3. Arguments that are no JSON cannot be spelt here: the answer ends as a malformed call, as Google's does.
"""

from __future__ import annotations

from typing import Any

import msgspec

from agentdur.testing.scripted_llm import answers
from agentdur.testing.scripted_llm.answers import Answer
from agentdur.testing.scripted_llm.exchange import REQUEST_BYTES_MAX
from agentdur.testing.scripted_llm.playbook import BadRequest, ChatRequest

_REASONS = {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}
METHODS = {"generateContent": False, "streamGenerateContent": True}
"""Of a model, and whether the answer is streamed."""


class GeminiBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The part of the body that the server reads."""

    contents: list[dict[str, Any]]
    system_instruction: dict[str, Any] | None = None


class Gemini:
    """One request's dialect: the path says which model is asked, and how."""

    last = b""

    def __init__(self, model: str, method: str) -> None:
        self._model, self._stream = model, METHODS[method]

    def parse(self, body: bytes) -> ChatRequest:
        if len(body) > REQUEST_BYTES_MAX:
            raise BadRequest(f"the request has more than {REQUEST_BYTES_MAX} bytes")
        try:
            given = msgspec.json.decode(body, type=GeminiBody)
        except msgspec.DecodeError as broken:
            raise BadRequest(str(broken)) from broken
        if not given.contents:
            raise BadRequest("contents must not be empty")
        messages = [message for content in given.contents for message in _messages(content)]
        if given.system_instruction is not None:
            text = "".join(part.get("text", "") for part in given.system_instruction.get("parts", ()))
            messages.insert(0, {"role": "system", "content": text})
        return ChatRequest(model=self._model, messages=messages, stream=self._stream)

    def whole(self, request: ChatRequest, answer: Answer) -> dict[str, Any]:
        parts = [_text(text, thought) for thought, text in _said(answer)]
        return self._envelope(answer, [*parts, *_calls(answer)], _reason(answer)) | _usage(answer)

    def events(self, request: ChatRequest, answer: Answer) -> list[bytes]:
        pieces = [
            self._envelope(answer, [_text(piece, thought)], None)
            for thought, text in _said(answer)
            for piece in answers.pieces(text, answer.chunk_chars)
        ]
        pieces += [self._envelope(answer, [call], None) for call in _calls(answer)]
        end = self._envelope(answer, [_text("", False)], _reason(answer)) | _usage(answer)
        return [answers.sse(event) for event in (*pieces, end)]

    def empty(self, request: ChatRequest, answer: Answer) -> dict[str, Any]:
        return {"candidates": [], "modelVersion": answer.model, "responseId": answer.id} | _usage(answer)

    def empty_events(self, request: ChatRequest, answer: Answer) -> list[bytes]:
        return [answers.sse(self.empty(request, answer))]

    def error_event(self, number: int, message: str, code: str) -> bytes:
        return answers.sse({"error": {"code": 500, "message": message, "status": "INTERNAL"}})

    def answered(self, request: ChatRequest, answer: Answer, delay_ms: int) -> bool:
        return False

    def _envelope(self, answer: Answer, parts: list[dict[str, Any]], reason: str | None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
        if reason is not None:
            candidate["finishReason"] = reason
        return {"candidates": [candidate], "modelVersion": answer.model, "responseId": answer.id}


def _said(answer: Answer) -> list[tuple[bool, str]]:
    """(whether it is a thought, the text), as far as there is any."""
    said = ((True, answer.reasoning), (False, answer.text), (False, answer.refusal))
    return [(thought, text) for thought, text in said if text]


def _text(text: str, thought: bool) -> dict[str, Any]:
    return {"text": text, "thought": True} if thought else {"text": text}


def _calls(answer: Answer) -> list[dict[str, Any]]:
    if _malformed(answer):
        return []
    return [
        {"functionCall": {"name": call.name, "args": msgspec.json.decode(answers.arguments_of(call))}}
        for _, call in answer.tool_calls
    ]


def _malformed(answer: Answer) -> bool:
    try:
        for _, call in answer.tool_calls:
            msgspec.json.decode(answers.arguments_of(call), type=dict[str, Any])
    except msgspec.MsgspecError:
        return True
    return False


def _reason(answer: Answer) -> str:
    return "MALFORMED_FUNCTION_CALL" if _malformed(answer) else _REASONS[answer.finish_reason]


def _usage(answer: Answer) -> dict[str, Any]:
    usage = answer.usage
    thoughts = usage.reasoning_tokens
    counted = {
        "promptTokenCount": usage.prompt_tokens,
        "candidatesTokenCount": usage.completion_tokens - thoughts,
        "totalTokenCount": usage.prompt_tokens + usage.completion_tokens,
    }
    more = {"thoughtsTokenCount": thoughts, "cachedContentTokenCount": usage.cached_tokens}
    return {"usageMetadata": counted | {name: count for name, count in more.items() if count}}


def _messages(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The chat messages that a content stands for."""
    said: dict[str, Any] = {"role": "assistant" if content.get("role") == "model" else "user", "content": ""}
    outputs: list[dict[str, Any]] = []
    for part in content.get("parts", ()):
        if "functionResponse" in part:
            given = part["functionResponse"]
            outputs.append({"role": "tool", "name": given.get("name"), "content": given.get("response")})
        elif "functionCall" in part:
            said.setdefault("tool_calls", []).append(part["functionCall"])
        elif not part.get("thought"):
            said["content"] += part.get("text", "")
    return outputs or [said]
