"""Interruptions of a run, parked: a person is asked by `ctx.approval` about the exact call, then it goes on.
on.

Rules of this file:
1. Each interruption is one approval, in a branch named by the call's id; they are asked for at the same time.
2. What is asked about is the agent, the tool and the arguments as the model gave them. Arguments that
   somebody edited are another call: this one is refused, and the model is told of them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from agents.items import ToolApprovalItem
from agents.run_state import RunState

from agentdur.integrations.openai_agents.scope import Scope
from agentdur.integrations.runs import Escape, is_cancellation
from agentdur.sdk.approval import Approval
from agentdur.sdk.exceptions import TerminalError


async def decide(scope: Scope, state: RunState[Any], interruptions: Sequence[ToolApprovalItem]) -> None:
    """Ask about all of them, and write the decisions into the state of the run."""
    asked = [_ask(scope, item) for item in interruptions]
    try:
        answers: list[Approval] = await asyncio.gather(*asked)
    except TerminalError as error:
        raise (Escape(error) if is_cancellation(error) else error) from None
    for item, answer in zip(interruptions, answers, strict=True):
        edited = answer.edited and answer.payload != payload_of(item)
        if answer.approved and not edited:
            state.approve(item)
        else:
            state.reject(item, rejection_message=_words(answer, edited))


def _ask(scope: Scope, item: ToolApprovalItem) -> Any:
    asked = payload_of(item)
    question = f"{asked['agent']}: run {asked['tool']}?"
    approval = scope.context.approval(question, asked, scope.how.approval_timeout)
    return scope.within(f"approval:{asked['call_id']}", approval)


def payload_of(item: ToolApprovalItem) -> dict[str, Any]:
    """What a person is shown, and what their decision is bound to."""
    raw = item.raw_item
    text = _get(raw, "arguments")
    return {
        "agent": item.agent.name,
        "tool": item.tool_name or _get(raw, "name") or _get(raw, "type") or "",
        "call_id": str(_get(raw, "call_id") or _get(raw, "id") or ""),
        "arguments": _parsed(text) if isinstance(text, str) else _plain(_get(raw, "action")),
    }


def _get(raw: Any, name: str) -> Any:
    return raw.get(name) if isinstance(raw, dict) else getattr(raw, name, None)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    return dump(mode="json", exclude_unset=True) if callable(dump) else value


def _words(answer: Approval, edited: bool) -> str | None:
    """What the model is told of a refusal; None: the framework's own words."""
    if edited and isinstance(answer.payload, dict) and "arguments" in answer.payload:
        wanted = json.dumps(answer.payload["arguments"], ensure_ascii=False)
        return f"Not approved with these arguments. Approvable arguments: {wanted}"
    if answer.timed_out:
        return "Nobody approved this call in time."
    return f"Not approved: {answer.reason}" if answer.reason else None
