"""The tables of invocations: as they are stored, as the engine's memory knows them, and both in one.

Rules of this file:
1. A view reads one stored table, and the rest by small queries beside it: so it is searched by that table's
   indexes, whatever it is joined with.
2. What is expensive is computed only when it is asked for: SQLite leaves out columns that nobody reads.
"""

from __future__ import annotations

from agentdur.core.query import Kind
from agentdur.stores.sql.value import quoted
from agentdur.stores.sql.view import AT, DUR, U32, U64, B, Col, Compared, Narrow, Narrowed, T, View

IN_FLIGHT = "in_flight"
"""A temporary view of (seq, status) of what has not ended, of which there is an index."""


def _by_status(stored: dict[str, str]) -> Narrow:
    """`stored`: by shown status the stored one."""

    def narrow(ours: str, said: Compared) -> Narrowed:
        words = [word for word in stored if (word in said.words) is not said.negated]
        wanted = sorted({stored[word] for word in words})
        if "completed" in wanted or not said.few(wanted):
            return Narrowed()
        listed = ", ".join(map(quoted, wanted))
        found = f'select "seq" from temp."{IN_FLIGHT}" where "status" in ({listed})'
        return Narrowed(f'{ours}."_seq" in ({found})', True)

    return narrow


def _by_target(ours: str, said: Compared) -> Narrowed:
    """`Service/handler` or `Object/key/handler`: the service, and the key when it is one target."""
    words = said.words
    if said.negated or not all(word.count("/") for word in words):
        return Narrowed()
    services = ", ".join(quoted(word.partition("/")[0]) for word in words)
    narrow = f'{ours}."target_service_name" in ({services})'
    if not all(word.count("/") > 1 for word in words):
        return Narrowed(narrow)
    keys = ", ".join(quoted(word.partition("/")[2].rpartition("/")[0]) for word in words)
    return Narrowed(f'{narrow} and {ours}."target_service_key" in ({keys})', True)


def _by_key(ours: str, said: Compared) -> Narrowed:
    return Narrowed(None, not said.negated)


_SHOWN = {
    "pending": "pending", "scheduled": "scheduled", "suspended": "suspended", "paused": "paused",
    "completed": "completed", "running": "running", "backing-off": "running", "ready": "running",
}  # fmt: skip
_STORED = {**{name: name for name in ("scheduled", "suspended", "paused", "completed")},
           "inboxed": "pending", "invoked": "running"}  # fmt: skip

MEMORY = "(select a.{} from temp.live_attempt a where a.seq = i.seq)"
LIVE = f"coalesce({MEMORY.format('in_flight')}, 0)"
_TARGET = "i.service || '/' || coalesce(i.key || '/', '') || i.handler"
TYPE = "case {0} when 'VirtualObject' then 'virtual_object' else lower({0}) end"
_CALLER = "(select {} from main.invocation p where p.id = i.caller)"
FAILED = "'[' || ({0} ->> 'code') || '] ' || ({0} ->> 'message')"
_REASON = "case {0} ->> 'code' when 500 then ' Internal' else '' end"
_LAST_FAILURE = (
    f"'[' || (i.last_failure ->> 'code') || {_REASON.format('i.last_failure')} || '] '"
    " || (i.last_failure ->> 'message')"
    " || coalesce(char(10) || nullif(i.last_failure ->> 'stacktrace', ''), '')"
)
_HAS_FAILED = "i.status <> 'completed' and i.last_failure is not null"
COMMAND = "kind not like '%Completion' and kind <> 'Signal'"
_ENTRIES = "(select count(*) from main.journal j where j.seq = i.seq)"
_STARTED = "i.status not in ('scheduled', 'pending')"
_DUE = "max(i.created_at, coalesce(i.execute_at, 0))"
_FIRST_START = """case when i.status not in ('scheduled', 'pending') then case
    when i.handler_kind = 'Exclusive' or i.execute_at is not null
    then coalesce((select j.at from main.journal j where j.seq = i.seq and j.idx = 1), i.created_at)
    else i.created_at end end"""
_AWAITING = "case i.status when 'suspended' then i.awaiting end"
ENTRY = "(select j.{} from main.journal j where j.seq = i.seq and j.idx = i.last_failure_entry)"
_FAILED_ENTRY = "case when i.status <> 'completed' then i.last_failure_entry end"
_FAILED_NAME = f"case when i.status <> 'completed' then {ENTRY.format('name')} end"
_FAILED_KIND = f"case when i.status <> 'completed' then {ENTRY.format('kind')} end"
_META = "json_extract(json_extract(j.detail, '$.meta'), '$.{}')"
_NOTED = "from main.journal j where j.seq = i.seq and j.kind = 'RunCompletion' and j.detail is not null"

_TARGET_COLUMNS = (
    Col("target", T, _TARGET, sure=True, narrow=_by_target),
    Col("target_service_name", T, "i.service", sure=True),
    Col("target_service_key", T, "i.key", narrow=_by_key),
    Col("target_handler_name", T, "i.handler", sure=True),
    Col("target_service_ty", T, TYPE.format("i.service_kind"), sure=True),
    Col("scope", T, "nullif(i.scope, '')"),
    Col("limit_key", T),
    Col("idempotency_key", T, "i.idempotency_key"),
    Col("invoked_by", T, "i.invoked_by", sure=True),
)
_CALLERS = {
    "invoked_by_service_name": Col("invoked_by_service_name", T, _CALLER.format("p.service")),
    "invoked_by_id": Col("invoked_by_id", T, "i.caller"),
    "invoked_by_subscription_id": Col("invoked_by_subscription_id", T),
    "invoked_by_target": Col("invoked_by_target", T, _CALLER.format(_TARGET.replace("i.", "p."))),
}
_PLACE_AND_TIMES = (
    Col("restarted_from", T, "i.restarted_from"),
    Col("pinned_deployment_id", T, "i.deployment"),
    Col("pinned_service_protocol_version", U32, "i.protocol"),
    Col("trace_id", T, "ad_trace_id(i.traceparent, i.id)"),
    Col("journal_size", U32, f"case when {_STARTED} then {_ENTRIES} end"),
    Col(
        "journal_commands_size", U32,
        f"case when {_STARTED} then {_ENTRIES[:-1]} and {COMMAND}) end",
    ),
    Col("created_at", AT, "i.created_at", sure=True),
    Col("created_using_restate_version", T),
    Col("modified_at", AT, "i.modified_at", sure=True),
    Col("inboxed_at", AT, f"case i.status when 'pending' then {_DUE} end"),
    Col("scheduled_at", AT, "case when i.execute_at is not null then i.created_at end"),
    Col("scheduled_start_at", AT, "i.execute_at"),
    Col("running_at", AT, _FIRST_START),
    Col("completed_at", AT, "i.completed_at"),
    Col("completion_retention", DUR, "i.completion_retention_ms"),
    Col("journal_retention", DUR, "i.journal_retention_ms"),
    Col("suspended_waiting_for_completions", Kind.NUMBERS, _AWAITING, "completions"),
    Col("suspended_waiting_for_signals", Kind.NUMBERS, _AWAITING, "signals"),
    Col("suspended_waiting_future_json", T, _AWAITING, "future"),
)  # fmt: skip
_OF_MEMORY = "case i.status when 'running' then {} end"
_ATTEMPTS = (
    Col("retry_count", U64, f"case when i.status = 'running' then i.failures + ({LIVE}) end"),
    Col("last_start_at", AT, _OF_MEMORY.format(MEMORY.format("begun_at"))),
    Col("next_retry_at", AT, "case when i.status = 'running' then i.retry_at end"),
    Col("last_attempt_deployment_id", T, _OF_MEMORY.format(MEMORY.format("deployment"))),
    Col("last_attempt_server", T, _OF_MEMORY.format(MEMORY.format("server"))),
    Col("last_failure", T, f"case when {_HAS_FAILED} then {_LAST_FAILURE} end"),
    Col("last_failure_error_code", T, f"case when {_HAS_FAILED} then ad_doc_code(i.last_failure) end"),
)
_RELATED = (
    Col("last_failure_related_entry_index", U64, _FAILED_ENTRY),
    Col("last_failure_related_entry_name", T, _FAILED_NAME),
    Col("last_failure_related_entry_type", T, _FAILED_KIND),
)
_RELATED_COMMAND = tuple(
    col._replace(name=col.name.replace("_entry_", "_command_"))
    for col in (_RELATED[0]._replace(kind=U64), *_RELATED[1:])
)
_LIVE_AWAITING = MEMORY.format("awaiting")
_LAST_AWAITING = (Col("last_awaiting_on_future_json", T, _LIVE_AWAITING, "future"),)
_RESULTS = (
    Col(
        "completion_result", T,
        "case i.status when 'completed' then iif(i.failure is null, 'success', 'failure') end",
    ),
    Col("completion_failure", T, f"case when i.status = 'completed' then {FAILED.format('i.failure')} end"),
)  # fmt: skip
_SHOWN_STATUS = f"""case i.status when 'running' then case
    when {LIVE} then 'running' when i.retry_at is not null or i.failures > 0 then 'backing-off'
    else 'ready' end else i.status end"""
_STORED_STATUS = "case i.status when 'running' then 'invoked' when 'pending' then 'inboxed' else i.status end"
ID = Col("id", T, "i.id", sure=True)
PARTITION = Col("partition_key", U64, "i.id", "partition_of_id", True)


def _own() -> tuple[Col, ...]:
    """What agents are asked about, after the API's columns."""
    return (
        Col("attempts", U64, "i.attempt", sure=True),
        Col(
            "waiting_on", T,
            f"coalesce({_AWAITING}, {_LIVE_AWAITING})",
            "waiting_on",
        ),
        Col("llm_calls", U64, f"(select count({_META.format('model')}) {_NOTED})", sure=True),
        Col("input_tokens", U64, f"(select sum({_META.format('prompt_tokens')}) {_NOTED})"),
        Col("output_tokens", U64, f"(select sum({_META.format('completion_tokens')}) {_NOTED})"),
        Col("cost", Kind.FLOAT, f"(select sum({_META.format('cost')}) {_NOTED})"),
    )  # fmt: skip


SYS_INVOCATION = View(
    "sys_invocation", "main.invocation i",
    (
        ID, Col("vqueue_id", T), *_TARGET_COLUMNS,
        *(_CALLERS[f"invoked_by_{n}"] for n in ("service_name", "id", "subscription_id", "target")),
        *_PLACE_AND_TIMES, *_ATTEMPTS, *_RELATED, *_RELATED_COMMAND, *_LAST_AWAITING,
        Col("status", T, _SHOWN_STATUS, sure=True, narrow=_by_status(_SHOWN)), *_RESULTS, *_own(),
    ),
    (("_seq", "i.seq"),),
)  # fmt: skip
SYS_INVOCATION_STATUS = View(
    "sys_invocation_status", "main.invocation i",
    (
        PARTITION, ID, Col("vqueue_id", T),
        Col("status", T, _STORED_STATUS, sure=True, narrow=_by_status(_STORED)), *_RESULTS, *_TARGET_COLUMNS,
        *(_CALLERS[f"invoked_by_{n}"] for n in ("id", "subscription_id", "service_name", "target")),
        *_PLACE_AND_TIMES,
    ),
    (("_seq", "i.seq"),),
)  # fmt: skip
SYS_INVOCATION_STATE = View(
    "sys_invocation_state",
    "main.invocation i where i.status = 'running' and i.status <> 'completed'",
    (
        PARTITION, ID, Col("in_flight", B, LIVE, sure=True), _ATTEMPTS[0], _ATTEMPTS[1], _ATTEMPTS[3],
        _ATTEMPTS[4], _ATTEMPTS[2], *_ATTEMPTS[5:], *_RELATED_COMMAND, *_RELATED, *_LAST_AWAITING,
    ),
)  # fmt: skip
