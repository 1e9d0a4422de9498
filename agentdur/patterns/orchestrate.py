"""An orchestrator plans, workers do the parts at the same time, and the orchestrator's results are put
together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import BaseModel, Field

from agentdur.agent import Agent, run_agent
from agentdur.patterns.doer import Doer, as_text, do
from agentdur.patterns.flow import parallel
from agentdur.sdk.context import Context

SUBTASKS_MAX = 50
"""Parts of a plan; a longer one is refused, and the planner asked again."""


class Plan(BaseModel):
    """How the task is divided."""

    subtasks: list[str] = Field(min_length=1, max_length=SUBTASKS_MAX)


async def orchestrate(ctx: Context, task: Any, planner: Agent, worker: Doer, synthesizer: Doer) -> Any:
    """The planner divides the task, one worker each does a part (all at the same time), and the synthesizer
    makes one result of `{"task": …, "results": [{"subtask": …, "result": …}, …]}`. The plan is an answer in
    the journal: after a crash the same parts go on, and those that are done are not done again."""
    run = await run_agent(ctx, replace(planner, output=Plan), as_text(task))
    subtasks = run.output.subtasks

    def part(subtask: str) -> Doer:
        async def work(context: Context, _: Any) -> Any:
            return await do(context, worker, subtask)

        return work

    results = await parallel(ctx, None, *(part(subtask) for subtask in subtasks))
    parts = [{"subtask": sub, "result": result} for sub, result in zip(subtasks, results, strict=True)]
    return await do(ctx, synthesizer, {"task": task, "results": parts})
