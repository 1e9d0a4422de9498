"""The tables that can be asked: their columns, and each as an expression over what is stored.

Rules of this file:
1. The names and kinds of the `sys_` tables are the admin API's; columns of ours come after them.
"""

from __future__ import annotations

from collections.abc import Iterator

from agentdur.core.query import Kind
from agentdur.stores.sql.agent_views import AGENT_VIEWS
from agentdur.stores.sql.invocation_views import (
    COMMAND,
    ENTRY,
    FAILED,
    ID,
    PARTITION,
    SYS_INVOCATION,
    SYS_INVOCATION_STATE,
    SYS_INVOCATION_STATUS,
    TYPE,
)
from agentdur.stores.sql.value import quoted
from agentdur.stores.sql.view import AT, BIN, CATALOG, DUR, INFORMATION, U32, U64, B, Col, T, View


def _keyed(table: str) -> tuple[Col, ...]:
    return (
        Col("service_name", T, f"{table}.service", sure=True),
        Col("service_key", T, f"{table}.key", sure=True),
    )


def _partition_of_key(table: str) -> Col:
    return Col("partition_key", U64, f"json_array({table}.key, {table}.scope)", "partition_of_key", True)


_JOURNAL = "main.journal j join main.invocation i on i.seq = j.seq"
_IS_COMMAND = f"j.{COMMAND}".replace("and kind", "and j.kind")
_ENTRY_TYPE = f"""case j.kind
    when 'CallIdCompletion' then 'Notification: CallInvocationId'
    when 'GetStateCompletion' then 'Notification: GetLazyState'
    when 'GetStateKeysCompletion' then 'Notification: GetLazyStateKeys'
    when 'AttachCompletion' then 'Notification: AttachInvocation'
    when 'OutputCompletion' then 'Notification: GetInvocationOutput'
    when 'Signal' then 'Notification: Signal'
    else case when {_IS_COMMAND} then 'Command: ' || j.kind
    else 'Notification: ' || substr(j.kind, 1, length(j.kind) - 10) end end"""
_PACKED_ENTRY = "json_array(j.kind, j.name, j.branch, j.completion, {}, j.detail, i.id, i.protocol)"
_WITH_PAYLOAD = _PACKED_ENTRY.format("hex(j.payload) || iif(j.payload is null, null, '')")
_WITHOUT = _PACKED_ENTRY.format("iif(j.payload is null, null, '')")
SYS_JOURNAL = View(
    "sys_journal", _JOURNAL,
    (
        PARTITION, ID, Col("index", U32, "j.idx", sure=True), Col("entry_type", T, _ENTRY_TYPE, sure=True),
        Col("name", T, f"case when {_IS_COMMAND} then coalesce(j.name, '') end"),
        Col("completed", B), Col("invoked_id", T), Col("invoked_target", T), Col("sleep_wakeup_at", AT),
        Col("promise_name", T), Col("raw", BIN, _WITH_PAYLOAD, "raw"),
        Col("raw_length", U64, _WITH_PAYLOAD, "raw_length"), Col("version", U32, "2", sure=True),
        Col("entry_json", T, _WITH_PAYLOAD, "entry_json"),
        Col("entry_lite_json", T, _WITHOUT, "entry_lite_json"),
        Col("appended_at", AT, "j.at", sure=True), Col("branch", T, "nullif(j.branch, '')"),
        Col("meta_json", T, "json_extract(j.detail, '$.meta')"),
    ),
)  # fmt: skip
_EVENT = "main.invocation i where i.last_failure is not null and i.status <> 'completed'"
SYS_JOURNAL_EVENTS = View(
    "sys_journal_events", _EVENT,
    (
        PARTITION, ID,
        Col("after_journal_entry_index", U32, "(select max(j.idx) from main.journal j where j.seq = i.seq)"),
        Col("appended_at", AT, "i.modified_at", sure=True),
        Col("event_type", T, "iif(i.status = 'paused', 'Paused', 'TransientError')", sure=True),
        Col(
            "event_json", T,
            "json_array(i.status, i.last_failure, i.last_failure_entry, "
            f"{ENTRY.format('name')}, {ENTRY.format('kind')})", "event",
        ),
    ),
)  # fmt: skip
SYS_INBOX = View(
    "sys_inbox", "main.inbox b join main.invocation i on i.id = b.invocation",
    (
        PARTITION, *_keyed("b"), ID, Col("sequence_number", U64, "b.position", sure=True),
        Col("created_at", AT, "i.created_at", sure=True),
    ),
)  # fmt: skip


SYS_KEYED_SERVICE_STATUS = View(
    "sys_keyed_service_status", "main.lock l",
    (_partition_of_key("l"), *_keyed("l"), Col("invocation_id", T, "l.holder", sure=True)),
)  # fmt: skip
STATE = View(
    "state", "main.state s",
    (
        _partition_of_key("s"), Col("scope", T, "nullif(s.scope, '')"), *_keyed("s"),
        Col("key", T, "s.name", sure=True), Col("key_length", U64, "length(cast(s.name as blob))", sure=True),
        Col("value_utf8", T, "s.value", "utf8"), Col("value", BIN, "s.value", sure=True),
        Col("value_length", U64, "length(s.value)", sure=True),
    ),
)  # fmt: skip
SYS_PROMISE = View(
    "sys_promise", "main.promise p",
    (
        _partition_of_key("p"), Col("scope", T, "nullif(p.scope, '')"), *_keyed("p"),
        Col("key", T, "p.name", sure=True),
        Col("completed", B, "(p.result is not null or p.failure is not null)", sure=True),
        Col("completion_success_value", BIN, "p.result"),
        Col("completion_success_value_utf8", T, "p.result", "utf8"),
        Col("completion_failure", T, f"iif(p.failure is null, null, {FAILED.format('p.failure')})"),
    ),
)  # fmt: skip
SYS_SERVICE = View(
    "sys_service", "temp.live_service s",
    (
        Col("name", T, "s.name", sure=True), Col("revision", U64, "s.revision", sure=True),
        Col("public", B, "s.public", sure=True), Col("ty", T, TYPE.format("s.ty"), sure=True),
        Col("deployment_id", T, "s.deployment", sure=True),
    ),
)  # fmt: skip
SYS_DEPLOYMENT = View(
    "sys_deployment", "temp.live_deployment d",
    (
        Col("id", T, "d.id", sure=True), Col("ty", T, "d.ty", sure=True), Col("endpoint", T, "d.endpoint"),
        Col("created_at", AT, "d.created_at"),
        Col("min_service_protocol_version", U32, "d.min_version"),
        Col("max_service_protocol_version", U32, "d.max_version"),
        Col("services", Kind.TEXTS, "d.services"),
    ),
)  # fmt: skip


def _empty(name: str, columns: str) -> View:
    """A table that has rows only where a feature is on that is not here. `columns`: as the API says them."""
    kinds = {"ts": AT, "dur": DUR, "u32": U32, "u64": U64, "bool": B}
    pairs = (word.partition(":") for word in columns.split())
    return View(name, "(select 1) where 0", tuple(Col(n, kinds.get(kind, T)) for n, _, kind in pairs))


_COUNTS = "num_attempts:u32 num_errors:u32 num_pauses:u32 num_suspensions:u32 num_yields:u32"
_FIRSTS = "first_attempt_at:ts latest_attempt_at:ts first_runnable_at:ts deployment"
_BLOCKED = (
    "invoker_concurrency", "throttling_rules", "invoker_throttling", "invoker_memory", "concurrency_rules",
    "lock", "deployment_concurrency",
)  # fmt: skip
EMPTY_VIEWS = (
    _empty("sys_rules", "pattern concurrency:u32 description disabled:bool version:u32 last_modified:ts"),
    _empty("sys_locks", "partition_key:u64 scope lock_name acquired_at:ts acquired_by"),
    _empty(
        "sys_user_limits",
        "partition_key:u64 scope l1 l2 level usage:u32 concurrency_limit:u32 rule_pattern available:u32 "
        "num_waiters:u64",
    ),
    _empty(
        "sys_scheduler",
        "partition_key:u64 id num_inbox:u64 status head_entry_id scheduled_at:ts blocked_on blocked_on_json "
        "invoker_concurrency_block_duration:dur throttling_rules_block_duration:dur "
        "invoker_throttling_block_duration:dur invoker_memory_block_duration:dur "
        "concurrency_rules_block_duration:dur lock_block_duration:dur "
        "deployment_concurrency_block_duration:dur",
    ),
    _empty(
        "sys_vqueues",
        "partition_key:u64 id stage status has_lock:bool run_at:ts sequence_number:u64 entry_id entry_kind "
        f"created_at:ts transitioned_at:ts {_COUNTS} {_FIRSTS}",
    ),
    _empty(
        "sys_vqueue_meta",
        "partition_key:u64 id is_active:bool queue_is_paused:bool service_name scope limit_key lock_name "
        "created_at:ts last_enqueued_at:ts last_start_at:ts last_attempt_at:ts last_finish_at:ts "
        "avg_queue_duration:dur avg_inbox_duration:dur avg_run_duration:dur avg_suspension_duration:dur "
        "avg_end_to_end_duration:dur avg_blocked_on_concurrency_rules:dur "
        "avg_blocked_on_invoker_concurrency:dur avg_blocked_on_invoker_throttling:dur "
        "avg_blocked_on_lock:dur num_inbox:u64 num_running:u64 num_suspended:u64 num_paused:u64 "
        "num_finished:u64",
    ),
    _empty(
        "sys_vqueue_entry_status",
        "partition_key:u64 entry_id vqueue_id stage status has_lock:bool next_at:ts sequence_number:u64 "
        f"entry_kind created_at:ts transitioned_at:ts {_COUNTS} {_FIRSTS} needed_memory:u64 "
        "retry_attempts:u32 retry_count_since_last_stored_command:u32 "
        + " ".join(
            f"{when}_blocked_on_{what}:dur" for when in ("latest_attempt", "total") for what in _BLOCKED
        ),
    ),
)


def _information() -> Iterator[View]:
    yield View(
        "tables", "temp.known_table t",
        (
            Col("table_catalog", T, quoted(CATALOG)), Col("table_schema", T, "t.schema"),
            Col("table_name", T, "t.name"), Col("table_type", T, "'VIEW'"),
        ),
        schema=INFORMATION,
    )  # fmt: skip
    yield View(
        "columns", "temp.known_column c",
        (
            Col("table_catalog", T, quoted(CATALOG)), Col("table_schema", T, "c.schema"),
            Col("table_name", T, "c.name"), Col("column_name", T, "c.col"),
            Col("ordinal_position", U64, "c.place"), Col("column_default", T),
            Col("is_nullable", T, "c.nullable"), Col("data_type", T, "c.kind"),
        ),
        schema=INFORMATION,
    )  # fmt: skip


ALL_VIEWS = (
    SYS_INVOCATION, SYS_INVOCATION_STATUS, SYS_INVOCATION_STATE, SYS_JOURNAL, SYS_JOURNAL_EVENTS, SYS_INBOX,
    SYS_KEYED_SERVICE_STATUS, STATE, SYS_PROMISE, SYS_SERVICE, SYS_DEPLOYMENT, *AGENT_VIEWS, *EMPTY_VIEWS,
    *_information(),
)  # fmt: skip
VIEWS = {(view.schema, view.name): view for view in ALL_VIEWS}
