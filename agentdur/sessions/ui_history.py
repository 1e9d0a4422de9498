"""A history as the Vercel AI SDK's messages: one per question, one per answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentdur.sessions.ui_teller import plain
from agentdur.sessions.words import Message, Shown, text_of

UIMessage = dict[str, Any]


def ui_messages(history: Sequence[Shown]) -> list[UIMessage]:
    """The conversation as `useChat` keeps it: all that one turn said is one message."""
    messages: list[UIMessage] = []
    calls: dict[str, dict[str, Any]] = {}
    for one in history:
        if one.role == "user":
            messages.append({"id": one.id, "role": "user", "parts": _said(one.message)})
        elif one.role == "tool":
            part = calls.get(str(one.message.get("tool_call_id")))
            if part is not None:
                part |= {"state": "output-available", "output": plain(one.message.get("content"))}
        elif one.role == "assistant":
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"id": f"turn-{one.turn}-{one.index}", "role": "assistant", "parts": []})
            messages[-1]["parts"] += [{"type": "step-start"}, *_reasoned(one.message), *_said(one.message)]
            for call in one.message.get("tool_calls") or ():
                function = call.get("function") or {}
                calls[call["id"]] = {
                    "type": f"tool-{function.get('name')}", "toolCallId": call["id"],
                    "providerExecuted": True, "state": "input-available",
                    "input": plain(function.get("arguments") or "{}"),
                }  # fmt: skip
                messages[-1]["parts"].append(calls[call["id"]])
    return messages


def _said(message: Message) -> list[dict[str, Any]]:
    content = message.get("content")
    parts = []
    for part in content if isinstance(content, list) else []:
        if part.get("type") == "image_url":
            parts.append({"type": "file", "mediaType": "image/*", "url": part["image_url"]["url"]})
    text = text_of(content)
    return [*([{"type": "text", "text": text, "state": "done"}] if text else []), *parts]


def _reasoned(message: Message) -> list[dict[str, Any]]:
    text = message.get("reasoning_content")
    return [{"type": "reasoning", "text": text, "state": "done"}] if text else []
