"""A person decides: ctx.approval."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from agentdur import Approval, Context, Service
from tests.support.stage import Stage


def publishing() -> tuple[Service, Any]:
    svc = Service("Publish")

    @svc.handler(inactivity_timeout=timedelta(0))
    async def publish(ctx: Context, timeout_ms: int | None) -> dict[str, Any]:
        timeout = None if timeout_ms is None else timedelta(milliseconds=timeout_ms)
        said = await ctx.approval("publish?", payload={"text": "hello"}, timeout=timeout)
        await ctx.run("after", lambda: None)
        return {
            "ok": bool(said), "reason": said.reason, "by": said.by, "late": said.timed_out,
            "payload": said.payload,
        }  # fmt: skip

    return svc, publish


async def question(stage: Stage, invocation: str) -> dict[str, Any]:
    shown = await stage.until_status(invocation, "suspended")
    named = {entry.get("name"): entry for entry in shown["journal"]}
    completion = named["approval"]["completion_id"]
    asked = [e for e in shown["journal"] if e["kind"] == "Completion" and e["completion_id"] == completion]
    found: dict[str, Any] = asked[0]["value"]
    return found


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        (True, {"ok": True, "reason": "", "by": "", "late": False, "payload": None}),
        (False, {"ok": False, "reason": "", "by": "", "late": False, "payload": None}),
        (
            {"approved": True, "reason": "fine", "by": "ada", "payload": {"text": "hi"}},
            {"ok": True, "reason": "fine", "by": "ada", "late": False, "payload": {"text": "hi"}},
        ),
        ({"reason": "no"}, {"ok": False, "reason": "no", "by": "", "late": False, "payload": None}),
    ],
)
async def test_a_person_answers_by_the_awakeable_that_the_step_names(stage: Stage, given: Any, seen: Any):
    svc, publish = publishing()
    await stage.start(svc)
    sent = await stage.client.service_send(publish, None)
    asked = await question(stage, sent.invocation_id)
    assert (asked["question"], asked["payload"]) == ("publish?", {"text": "hello"})
    await stage.restart()
    await stage.client.resolve_awakeable(asked["awakeable"], given)
    assert await stage.client.attach(sent.invocation_id) == seen


async def test_no_answer_in_time_is_no(stage: Stage):
    svc, publish = publishing()
    await stage.start(svc)
    answer = await stage.client.service_call(publish, 5)
    assert (answer["ok"], answer["late"]) == (False, True)
    sent = await stage.client.service_send(publish, 60_000)
    asked = await question(stage, sent.invocation_id)
    await stage.client.resolve_awakeable(asked["awakeable"], {"approved": True, "by": "eve"})
    assert (await stage.client.attach(sent.invocation_id))["by"] == "eve"


def test_an_approval_is_true_only_when_approved():
    assert Approval(True)
    assert not Approval(False, timed_out=True)
