"""The tables of ours: what agents ask models and people, and their sessions.

Rules of this file:
1. What a step notes of itself, an approval's record and a session's `about` are JSON, and read as such; a
   field that is not there is null.
"""

from __future__ import annotations

from agentdur.core.query import Kind
from agentdur.stores.sql.value import time_of_text
from agentdur.stores.sql.view import AT, DUR, U64, B, Col, T, View

F = Kind.FLOAT
_META = "json_extract(j.detail, '$.meta')"


def _noted(name: str) -> str:
    return f"json_extract({_META}, '$.{name}')"


# The command is near its result, and before it.
_STEP = """(select c.name from main.journal c where c.seq = j.seq and c.idx < j.idx
    and c.completion = j.completion and c.kind = 'Run' order by c.idx desc limit 1)"""
LLM_CALLS = View(
    "llm_calls",
    f"""main.journal j join main.invocation i on i.seq = j.seq
    where j.kind = 'RunCompletion' and j.detail is not null and {_META} like '%"model"%'""",
    (
        Col("invocation_id", T, "i.id", sure=True), Col("index", U64, "j.idx", sure=True),
        Col("target_service_name", T, "i.service", sure=True), Col("target_service_key", T, "i.key"),
        Col("target_handler_name", T, "i.handler", sure=True), Col("step", T, _STEP),
        Col("at", AT, "j.at", sure=True), Col("model", T, _noted("model")), Col("asked", T, _noted("asked")),
        Col("input_tokens", U64, _noted("prompt_tokens")),
        Col("output_tokens", U64, _noted("completion_tokens")), Col("cost", F, _noted("cost")),
        Col("latency", DUR, _noted("latency_ms")), Col("request_id", T, _noted("request_id")),
        Col("conversation", T, _noted("conversation")), Col("messages", U64, _noted("messages")),
        Col("why", T, _noted("why")),
    ),
)  # fmt: skip


def _said(name: str) -> str:
    return f"(cast(s.value as text) ->> '$.{name}')"


def _when(name: str) -> str:
    return time_of_text(_said(name))


_OF_APPROVAL = "s.service = 'agentdur.Approval' and s.service >= 'agentdur.' and s.service < 'agentdur/'"
APPROVALS = View(
    "approvals", f"main.state s where {_OF_APPROVAL} and s.name in ('pending', 'decided')",
    (
        Col("id", T, "s.key", sure=True),
        Col("status", T, f"coalesce({_said('status')}, 'pending')", sure=True),
        Col("question", T, _said("question"), sure=True), Col("tool", T, f"nullif({_said('tool')}, '')"),
        Col("service_name", T, _said("service")), Col("invocation_id", T, _said("invocation"), sure=True),
        Col("asked_at", AT, _when("asked_at"), sure=True), Col("deadline", AT, _when("deadline")),
        Col("payload_json", T, "(cast(s.value as text) -> '$.payload')"),
        Col("digest", T, _said("digest"), sure=True), Col("approved", B, _said("approved")),
        Col("by", T, f"nullif({_said('by')}, '')"), Col("reason", T, f"nullif({_said('reason')}, '')"),
        Col("decided_at", AT, _when("decided_at")), Col("timed_out", B, f"coalesce({_said('timed_out')}, 0)"),
        Col("edited", B, f"coalesce({_said('edited')}, 0)"),
    ),
)  # fmt: skip


def _seconds(name: str) -> str:
    return f"cast(round({_said(name)} * 1000) as integer)"


# Which services hold chats is known by the handlers that all of them have.
_CHATS = """temp.live_service v join main.state s on s.service = v.name
    where s.name = 'about' and s.scope = '' and json_valid(cast(s.value as text))
    and v.handlers like '%"turn"%' and v.handlers like '%"post"%' and v.handlers like '%"history"%'"""
SESSIONS = View(
    "sessions", _CHATS,
    (
        Col("service_name", T, "s.service", sure=True), Col("session", T, "s.key", sure=True),
        Col("title", T, f"nullif({_said('title')}, '')"), Col("agent", T, f"nullif({_said('agent')}, '')"),
        Col("created_at", AT, _seconds("created"), sure=True),
        Col("updated_at", AT, _seconds("updated"), sure=True),
        Col("messages", U64, f"coalesce({_said('messages')}, 0)", sure=True),
        Col("turns", U64, f"coalesce({_said('turns')}, 0)", sure=True),
        Col("llm_calls", U64, f"coalesce({_said('model_calls')}, 0)", sure=True),
        Col("input_tokens", U64, f"coalesce({_said('usage.prompt_tokens')}, 0)", sure=True),
        Col("output_tokens", U64, f"coalesce({_said('usage.completion_tokens')}, 0)", sure=True),
        Col("cost", F, _said("cost")), Col("running_invocation_id", T, _said("running.invocation")),
    ),
)  # fmt: skip
ATTEMPTS = View(
    "attempts", "main.attempt a join main.invocation i on i.seq = a.seq",
    (
        Col("invocation_id", T, "i.id", sure=True), Col("target_service_name", T, "i.service", sure=True),
        Col("target_service_key", T, "i.key"), Col("target_handler_name", T, "i.handler", sure=True),
        Col("number", U64, "a.number", sure=True), Col("attempt", U64, "a.attempt", sure=True),
        Col("started_at", AT, "a.started_at"), Col("ended_at", AT, "a.ended_at", sure=True),
        Col("duration", DUR, "a.ended_at - a.started_at"), Col("error_code", U64, "a.code", sure=True),
        Col("error_message", T, "a.message", sure=True), Col("reason", T, "a.reason"),
        Col("entry", U64, "a.entry"), Col("journal_size", U64, "a.length", sure=True),
        Col("deployment_id", T, "a.deployment"), Col("node", T, "nullif(a.node, '')"),
        Col("next_retry_at", AT, "a.retry_at"),
    ),
)  # fmt: skip
_BOOK = "cast(s.value as text)"
_OF_BUDGET = "s.service = 'agentdur.Budget' and s.service >= 'agentdur.' and s.service < 'agentdur/'"
_UNITS = "select 'calls' as unit union all select 'tokens' union all select 'cost' union all select 'seconds'"


def _of_unit(part: str) -> str:
    return f"json_extract({_BOOK}, '$.{part}.' || u.unit)"


_ALLOWED = f"({_of_unit('limits')} + coalesce({_of_unit('raised')}, 0))"
# How long it has been going on is not stored; when it began is.
_SPENT = f"case when u.unit <> 'seconds' then coalesce({_of_unit('spent')}, 0) end"
_HELD = f"""(select coalesce(sum(json_extract(h.value, '$.amounts.' || u.unit)), 0)
    from json_each({_BOOK}, '$.holds') h)"""
BUDGETS = View(
    "budgets",
    f"""main.state s cross join ({_UNITS}) u
    where {_OF_BUDGET} and s.name = 'book' and json_valid({_BOOK})
    and {_of_unit("limits")} is not null""",
    (
        Col("account", T, "s.key", sure=True), Col("name", T, f"nullif({_said('limits.name')}, '')"),
        Col("unit", T, "u.unit", sure=True), Col("allowed", F, _ALLOWED, sure=True),
        Col("spent", F, _SPENT), Col("held", F, _HELD, sure=True),
        Col("remaining", F, f"max({_ALLOWED} - ({_SPENT}), 0)"),
        Col("on_limit", T, f"coalesce({_said('limits.on_limit')}, 'fail')", sure=True),
        Col("raises", U64, f"coalesce({_said('raises')}, 0)", sure=True),
        Col("began_at", AT, f"nullif(coalesce({_said('began')}, 0), 0)"),
    ),
)  # fmt: skip
AGENT_VIEWS = (LLM_CALLS, APPROVALS, SESSIONS, ATTEMPTS, BUDGETS)
