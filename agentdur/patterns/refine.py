"""A writer and a judge: again and again until it is good, or the rounds are over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
from pydantic import BaseModel

from agentdur.agent import Agent, run_agent
from agentdur.patterns.doer import Doer, as_text, do
from agentdur.sdk.context import Context

ROUNDS_MAX = 3


class Verdict(BaseModel):
    """What the judge says of a draft."""

    good: bool
    feedback: str = ""


class Refined(msgspec.Struct, frozen=True):
    """The last draft, whether the judge found it good, and after how many rounds."""

    value: Any
    good: bool
    rounds: int
    feedback: str = ""


async def refine(
    ctx: Context, task: Any, writer: Doer, judge: Agent, rounds_max: int = ROUNDS_MAX
) -> Refined:
    """The writer is given the task, then `{"task", "draft", "feedback"}`, until the judge (given `{"task",
    "draft"}`) finds it good. Every draft and verdict is an answer in the journal: a crash costs no round."""
    rounds, critic = 0, replace(judge, output=Verdict)
    draft = await do(ctx, writer, task)
    while True:
        rounds += 1
        told = as_text({"task": task, "draft": draft})
        verdict: Verdict = (await run_agent(ctx, critic, told)).output
        if verdict.good or rounds >= rounds_max:
            return Refined(draft, verdict.good, rounds, verdict.feedback)
        draft = await do(ctx, writer, {"task": task, "draft": draft, "feedback": verdict.feedback})
