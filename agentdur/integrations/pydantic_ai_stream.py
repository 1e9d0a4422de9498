"""Live deltas of streamed requests, in the words of durable streams.

Rules of this file:
1. Deltas go out from within the model step, so that a crashed attempt's are voided with it.
2. A tool's result goes out from within the tool's step, when the run streams.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any

from pydantic_ai.agent import EventStreamHandler
from pydantic_ai.messages import (
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
)
from pydantic_ai.tools import RunContext
from pydantic_core import to_json

from agentdur.integrations.pydantic_ai_run import current_run
from agentdur.sdk.stream import stream

streaming: ContextVar[bool] = ContextVar("agentdur_pydantic_ai_streaming", default=False)
"""True in the step of a streamed request."""

_FAILED = {"model_retry", "tool_failed", "run_cancelled"}


def sending(inner: EventStreamHandler[Any] | None) -> EventStreamHandler[Any]:
    """A handler that sends what it sees to the invocation's readers, and lets `inner` see it too."""

    async def handler(ctx: RunContext[Any], events: AsyncIterable[Any]) -> None:
        if inner is not None:
            await inner(ctx, _sent(events))
        else:
            async for _ in _sent(events):
                pass

    return handler


async def _sent(events: AsyncIterable[Any]) -> AsyncIterator[Any]:
    chunks = Chunks()
    async for event in events:
        for chunk in chunks.of(event):
            stream(chunk)
        yield event


class Chunks:
    """Translates the events of one answer; deltas of a tool call carry the call's id and name."""

    def __init__(self) -> None:
        self._calls: dict[int, tuple[str, str]] = {}

    def of(self, event: Any) -> Iterator[dict[str, Any]]:
        """The chunks of an event, mostly one; none for what readers need not see."""
        match event:
            case (
                PartStartEvent(part=TextPart(content=text))
                | PartDeltaEvent(delta=TextPartDelta(content_delta=text))
            ) if text:
                yield {"type": "text", "delta": text}
            case (
                PartStartEvent(part=ThinkingPart(content=text))
                | PartDeltaEvent(delta=ThinkingPartDelta(content_delta=text))
            ) if text:
                yield {"type": "reasoning", "delta": text}
            case PartStartEvent(index=index, part=ToolCallPart() as call):
                self._calls[index] = (call.tool_call_id, call.tool_name)
                yield self._call(index, call.args)
            case PartDeltaEvent(index=index, delta=ToolCallPartDelta(args_delta=args)) if (
                args and index in self._calls
            ):
                yield self._call(index, args)

    def _call(self, index: int, args: Any) -> dict[str, Any]:
        text = args if isinstance(args, str) else to_json(args).decode() if args else ""
        name = self._calls[index]
        return {"type": "tool_call", "id": name[0], "name": name[1], "delta": text}


def announce_answer(answer: dict[str, Any]) -> None:
    """The end of a streamed answer, from within its step."""
    run = current_run.get()
    if run is not None:
        run.streamed = True
    used = answer.get("usage") or {}
    reason = answer.get("finish_reason") or "stop"
    stream(
        {
            "type": "finish",
            "reason": "tool_calls" if reason == "tool_call" else reason,
            "usage": {
                "prompt_tokens": used.get("input_tokens", 0),
                "completion_tokens": used.get("output_tokens", 0),
                "cached_tokens": used.get("cache_read_tokens", 0),
                "reasoning_tokens": used.get("output_reasoning_tokens", 0),
            },
            "model": answer.get("model_name") or "",
            "cost": used.get("cost"),
        }
    )


def announce_tool(asked_by: RunContext[Any], payload: Any) -> None:
    """A tool's result, from within its step; nothing when the run does not stream."""
    run = current_run.get()
    kind = payload.get("kind") if isinstance(payload, dict) else None
    if run is None or not run.streamed or kind in (None, "approval_required", "call_deferred"):
        return
    content = payload.get("result", payload.get("message", ""))
    stream(
        {
            "type": "tool_result",
            "id": asked_by.tool_call_id,
            "name": asked_by.tool_name,
            "content": content if isinstance(content, str) else to_json(content, fallback=str).decode(),
            "failed": kind in _FAILED,
        }
    )
