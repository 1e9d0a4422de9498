"""The tables that can be asked: their columns, and each as an expression over what is stored.

Rules of this file:
1. The names and kinds of the `sys_` tables are the admin API's; columns of ours come after them.
2. A view reads one stored table where it can, and the rest by small queries beside it: so it is searched by
   that table's indexes, whatever it is joined with.
3. What is expensive is computed only when it is asked for: SQLite leaves out columns that nobody reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from agentdur.core.query import Kind
from agentdur.stores.sql.value import Value, quoted

CATALOG, SCHEMA, INFORMATION = "restate", "public", "information_schema"

T, I, U32, U64, B = Kind.TEXT, Kind.INT, Kind.U32, Kind.U64, Kind.BOOL
AT, DUR, BIN = Kind.TIMESTAMP, Kind.DURATION, Kind.BINARY

Narrow = Callable[[str, list[str]], str | None]


class Col(NamedTuple):
    """A column. `packed`, `sure`: as in `Value`; `narrow` is told the table's alias and the words."""

    name: str
    kind: Kind
    sql: str = "null"
    packed: str = ""
    sure: bool = False
    narrow: Narrow | None = None


class View(NamedTuple):
    """A table of the admin API. `source`: its FROM; `behind`: columns for `narrow`, which have no name."""

    name: str
    source: str
    columns: tuple[Col, ...]
    behind: tuple[tuple[str, str], ...] = ()
    schema: str = SCHEMA

    @property
    def stored(self) -> str:
        """The name of the temporary view."""
        return f"{self.schema}.{self.name}"

    def values(self, ours: str) -> tuple[tuple[str, Value], ...]:
        """Its columns as they are said where it is called `ours`."""
        return tuple((col.name, _value(col, ours)) for col in self.columns)

    def statement(self) -> str:
        """The statement that makes the view."""
        given = [(col.name, col.sql) for col in self.columns]
        columns = ", ".join(f'{sql} as "{name}"' for name, sql in (*given, *self.behind))
        return f'create temp view "{self.stored}" as select {columns} from {self.source}'


def _value(col: Col, ours: str) -> Value:
    narrow = col.narrow
    bound = None if narrow is None else lambda words: narrow(ours, words)
    return Value(f'{ours}."{col.name}"', col.kind, col.packed, col.sure, narrow=bound)


def _by_status(stored: dict[str, str]) -> Narrow:
    """`stored`: by shown status the stored one."""

    def narrow(ours: str, words: list[str]) -> str:
        wanted = sorted({stored.get(word, "") for word in words} - {""})
        if "completed" in wanted:
            return f'{ours}."_status" in ({", ".join(map(quoted, wanted))})' if wanted else "0"
        # Said as the partial index of those in flight says it.
        listed = ", ".join(map(quoted, wanted)) or "null"
        return f"""{ours}."_status" in ({listed}) and {ours}."_status" <> 'completed'"""

    return narrow


def _by_target(ours: str, words: list[str]) -> str | None:
    """`Service/handler` or `Object/key/handler`: the service, and the key when it is one target."""
    if not all(word.count("/") for word in words):
        return None
    services = ", ".join(quoted(word.partition("/")[0]) for word in words)
    narrow = f'{ours}."target_service_name" in ({services})'
    keys = [word.partition("/")[2].rpartition("/")[0] for word in words]
    if all(word.count("/") > 1 for word in words):
        narrow += f' and {ours}."target_service_key" in ({", ".join(map(quoted, keys))})'
    return narrow


_SHOWN = {
    "pending": "pending", "scheduled": "scheduled", "suspended": "suspended", "paused": "paused",
    "completed": "completed", "running": "running", "backing-off": "running", "ready": "running",
}  # fmt: skip
_STORED = {**{name: name for name in ("scheduled", "suspended", "paused", "completed")},
           "inboxed": "pending", "invoked": "running"}  # fmt: skip

LIVE = "exists (select 1 from temp.live_attempt a where a.seq = i.seq)"
_TARGET = "i.service || '/' || coalesce(i.key || '/', '') || i.handler"
_TYPE = "case {0} when 'VirtualObject' then 'virtual_object' else lower({0}) end"
_CALLER = "(select {} from main.invocation p where p.id = i.caller)"
_FAILED = "'[' || ({0} ->> 'code') || '] ' || ({0} ->> 'message')"
_REASON = "case {0} ->> 'code' when 500 then ' Internal' else '' end"
_LAST_FAILURE = (
    f"'[' || (i.last_failure ->> 'code') || {_REASON.format('i.last_failure')} || '] '"
    " || (i.last_failure ->> 'message')"
    " || coalesce(char(10) || nullif(i.last_failure ->> 'stacktrace', ''), '')"
)
_HAS_FAILED = "i.status <> 'completed' and i.last_failure is not null"
_COMMAND = "kind not like '%Completion' and kind <> 'Signal'"
_STARTED = "i.status not in ('scheduled', 'pending')"
_FIRST_START = """case when i.status not in ('scheduled', 'pending') then case
    when i.handler_kind = 'Exclusive' or i.execute_at is not null
    then coalesce((select j.at from main.journal j where j.seq = i.seq and j.idx = 1), i.created_at)
    else i.created_at end end"""
_AWAITING = "case i.status when 'suspended' then i.awaiting end"
_ENTRY = "(select j.{} from main.journal j where j.seq = i.seq and j.idx = i.last_failure_entry)"
_FAILED_ENTRY = "case when i.status <> 'completed' then i.last_failure_entry end"
_FAILED_NAME = f"case when i.status <> 'completed' then {_ENTRY.format('name')} end"
_FAILED_KIND = f"case when i.status <> 'completed' then {_ENTRY.format('kind')} end"
_META = "json_extract(json_extract(j.detail, '$.meta'), '$.{}')"
_NOTED = "from main.journal j where j.seq = i.seq and j.kind = 'RunCompletion' and j.detail is not null"

_TARGET_COLUMNS = (
    Col("target", T, _TARGET, sure=True, narrow=_by_target),
    Col("target_service_name", T, "i.service", sure=True),
    Col("target_service_key", T, "i.key"),
    Col("target_handler_name", T, "i.handler", sure=True),
    Col("target_service_ty", T, _TYPE.format("i.service_kind"), sure=True),
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
    Col("trace_id", T, "substr(i.traceparent, 4, 32)"),
    Col("journal_size", U32, "(select count(*) from main.journal j where j.seq = i.seq)"),
    Col(
        "journal_commands_size", U32,
        f"(select count(*) from main.journal j where j.seq = i.seq and {_COMMAND})",
    ),
    Col("created_at", AT, "i.created_at", sure=True),
    Col("created_using_restate_version", T),
    Col("modified_at", AT, "i.modified_at", sure=True),
    Col("inboxed_at", AT, "case i.status when 'pending' then max(i.created_at, coalesce(i.execute_at, 0)) end"),
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
_ATTEMPTS = (
    Col("retry_count", U64, f"case when i.status = 'running' then i.failures + ({LIVE}) end"),
    Col("last_start_at", AT),
    Col("next_retry_at", AT, "case when i.status = 'running' then i.retry_at end"),
    Col("last_attempt_deployment_id", T, "case when i.status = 'running' then i.deployment end"),
    Col("last_attempt_server", T),
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
_LIVE_AWAITING = (
    Col("last_awaiting_on_future_json", T, "(select a.awaiting from temp.live_attempt a where a.seq = i.seq)", "future"),
)  # fmt: skip
_RESULTS = (
    Col(
        "completion_result", T,
        "case i.status when 'completed' then iif(i.failure is null, 'success', 'failure') end",
    ),
    Col("completion_failure", T, f"case when i.status = 'completed' then {_FAILED.format('i.failure')} end"),
)  # fmt: skip
_SHOWN_STATUS = f"""case i.status when 'running' then case
    when {LIVE} then 'running' when i.retry_at is not null or i.failures > 0 then 'backing-off'
    else 'ready' end else i.status end"""
_STORED_STATUS = "case i.status when 'running' then 'invoked' when 'pending' then 'inboxed' else i.status end"
_ID = Col("id", T, "i.id", sure=True)
_PARTITION = Col("partition_key", U64, "i.id", "partition_of_id", True)


def _own() -> tuple[Col, ...]:
    """What agents are asked about, after the API's columns."""
    return (
        Col("attempts", U64, "i.attempt", sure=True),
        Col(
            "waiting_on", T,
            f"coalesce({_AWAITING}, (select a.awaiting from temp.live_attempt a where a.seq = i.seq))",
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
        _ID, Col("vqueue_id", T), *_TARGET_COLUMNS,
        *(_CALLERS[f"invoked_by_{n}"] for n in ("service_name", "id", "subscription_id", "target")),
        *_PLACE_AND_TIMES, *_ATTEMPTS, *_RELATED, *_RELATED_COMMAND, *_LIVE_AWAITING,
        Col("status", T, _SHOWN_STATUS, sure=True, narrow=_by_status(_SHOWN)), *_RESULTS, *_own(),
    ),
    (("_status", "i.status"),),
)  # fmt: skip
SYS_INVOCATION_STATUS = View(
    "sys_invocation_status", "main.invocation i",
    (
        _PARTITION, _ID, Col("vqueue_id", T),
        Col("status", T, _STORED_STATUS, sure=True, narrow=_by_status(_STORED)), *_RESULTS, *_TARGET_COLUMNS,
        *(_CALLERS[f"invoked_by_{n}"] for n in ("id", "subscription_id", "service_name", "target")),
        *_PLACE_AND_TIMES,
    ),
    (("_status", "i.status"),),
)  # fmt: skip
SYS_INVOCATION_STATE = View(
    "sys_invocation_state",
    "main.invocation i where i.status = 'running' and i.status <> 'completed'",
    (
        _PARTITION, _ID, Col("in_flight", B, LIVE, sure=True), _ATTEMPTS[0], _ATTEMPTS[1], _ATTEMPTS[3],
        _ATTEMPTS[4], _ATTEMPTS[2], *_ATTEMPTS[5:], *_RELATED_COMMAND, *_RELATED, *_LIVE_AWAITING,
    ),
)  # fmt: skip

_JOURNAL = "main.journal j join main.invocation i on i.seq = j.seq"
_IS_COMMAND = f"j.{_COMMAND}".replace("and kind", "and j.kind")
_ENTRY_TYPE = f"""case j.kind
    when 'CallIdCompletion' then 'Notification: CallInvocationId'
    when 'GetStateCompletion' then 'Notification: GetLazyState'
    when 'GetStateKeysCompletion' then 'Notification: GetLazyStateKeys'
    when 'AttachCompletion' then 'Notification: AttachInvocation'
    when 'OutputCompletion' then 'Notification: GetInvocationOutput'
    when 'Signal' then 'Notification: Signal'
    else case when {_IS_COMMAND} then 'Command: ' || j.kind
    else 'Notification: ' || substr(j.kind, 1, length(j.kind) - 10) end end"""
_PACKED_ENTRY = (
    "json_array(j.kind, j.name, j.branch, j.completion, {}, j.detail, i.id, i.protocol)"
)
_WITH_PAYLOAD = _PACKED_ENTRY.format("hex(j.payload) || iif(j.payload is null, null, '')")
_WITHOUT = _PACKED_ENTRY.format("iif(j.payload is null, null, '')")
SYS_JOURNAL = View(
    "sys_journal", _JOURNAL,
    (
        _PARTITION, _ID, Col("index", U32, "j.idx", sure=True), Col("entry_type", T, _ENTRY_TYPE, sure=True),
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
        _PARTITION, _ID,
        Col("after_journal_entry_index", U32, "(select max(j.idx) from main.journal j where j.seq = i.seq)"),
        Col("appended_at", AT, "i.modified_at", sure=True),
        Col("event_type", T, "iif(i.status = 'paused', 'Paused', 'TransientError')", sure=True),
        Col(
            "event_json", T,
            "json_array(i.status, i.last_failure, i.last_failure_entry, "
            f"{_ENTRY.format('name')}, {_ENTRY.format('kind')})", "event",
        ),
    ),
)  # fmt: skip
SYS_INBOX = View(
    "sys_inbox", "main.inbox b join main.invocation i on i.id = b.invocation",
    (
        _PARTITION, Col("service_name", T, "b.service", sure=True), Col("service_key", T, "b.key", sure=True), _ID,
        Col("sequence_number", U64, "b.position", sure=True), Col("created_at", AT, "i.created_at", sure=True),
    ),
)  # fmt: skip


def _keyed(table: str) -> tuple[Col, ...]:
    return (
        Col("service_name", T, f"{table}.service", sure=True), Col("service_key", T, f"{table}.key", sure=True),
    )  # fmt: skip


def _partition_of_key(table: str) -> Col:
    return Col("partition_key", U64, f"json_array({table}.key, {table}.scope)", "partition_of_key", True)


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
        Col("completion_success_value", BIN, "p.result"), Col("completion_success_value_utf8", T, "p.result", "utf8"),
        Col("completion_failure", T, f"iif(p.failure is null, null, {_FAILED.format('p.failure')})"),
    ),
)  # fmt: skip
SYS_SERVICE = View(
    "sys_service", "temp.live_service s",
    (
        Col("name", T, "s.name", sure=True), Col("revision", U64, "s.revision", sure=True),
        Col("public", B, "s.public", sure=True), Col("ty", T, _TYPE.format("s.ty"), sure=True),
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
        + " ".join(f"{when}_blocked_on_{what}:dur" for when in ("latest_attempt", "total") for what in _BLOCKED),
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
    SYS_KEYED_SERVICE_STATUS, STATE, SYS_PROMISE, SYS_SERVICE, SYS_DEPLOYMENT, *EMPTY_VIEWS, *_information(),
)  # fmt: skip
VIEWS = {(view.schema, view.name): view for view in ALL_VIEWS}
