"""The schema, declared once: what a committed invocation, its journal and its surroundings look like.

Rules of this file:
1. Payloads are stored as they came (bytes); what people query is a column; the rest is JSON text.
2. A released column keeps its name and meaning. A change here comes with a step in `migrate`.
3. Indexes are few: the writer pays for each of them on each row.
4. Times are ms since epoch.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Text, text
from sqlalchemy.types import TypeEngine
from sqlmodel import Field, SQLModel

# SQLite's row number must be declared INTEGER; everywhere else it is 64 bits wide.
Number = BigInteger().with_variant(Integer(), "sqlite")

_BY_KEY = {"sqlite_with_rowid": False}  # rows live in the primary key's tree: one write each, not two


def _key(kind: TypeEngine[Any]) -> Any:
    """Part of the primary key."""
    return Field(sa_column=Column(kind, primary_key=True, nullable=False, autoincrement=False))


def _must(kind: TypeEngine[Any]) -> Any:
    """Always there."""
    return Field(sa_column=Column(kind, nullable=False))


def _partial(name: str, columns: tuple[str, ...], condition: str) -> Index:
    """An index of the rows that meet the condition: the others cost it nothing."""
    where = text(condition)
    return Index(name, *columns, sqlite_where=where, postgresql_where=where)


def _may(kind: TypeEngine[Any]) -> Any:
    """Null when there is nothing to say."""
    return Field(default=None, sa_column=Column(kind, nullable=True))


class InvocationRow(SQLModel, table=True):
    """One invocation. The first group never changes; the second is rewritten when its head changes."""

    __tablename__: ClassVar[str] = "invocation"
    __table_args__ = (
        Index("invocation_by_creation", "created_at"),
        Index("invocation_by_service", "service"),
        Index("invocation_of_service_by_creation", "service", "created_at"),
        _partial("invocation_by_key", ("service", "key"), "key is not null"),
        _partial("invocation_in_flight", ("status",), "status <> 'completed'"),
        _partial("invocation_expiring", ("expires_at",), "expires_at is not null"),
        _partial(
            "journal_expiring", ("journal_expires_at",), "journal_kept = 1 and journal_expires_at is not null"
        ),
    )

    seq: int = _key(Number)
    id: str = Field(sa_column=Column(Text(), nullable=False, unique=True))
    service: str = _must(Text())
    handler: str = _must(Text())
    key: str | None = _may(Text())
    scope: str = _must(Text())
    service_kind: str = _must(Text())
    handler_kind: str = _must(Text())
    created_at: int = _must(BigInteger())
    invoked_by: str = _must(Text())
    caller: str | None = _may(Text())
    idempotency_key: str | None = _may(Text())
    completion_retention_ms: int = _must(BigInteger())
    journal_retention_ms: int = _must(BigInteger())
    execute_at: int | None = _may(BigInteger())
    restarted_from: str | None = _may(Text())
    seed: str | None = _may(Text())  # unsigned 64 bits: more than a database number holds
    traceparent: str | None = _may(Text())

    status: str = _must(Text())
    modified_at: int = _must(BigInteger())
    completed_at: int | None = _may(BigInteger())
    attempt: int = _must(BigInteger())
    failures: int = _must(BigInteger())
    retry_at: int | None = _may(BigInteger())
    last_failure: str | None = _may(Text())
    last_failure_entry: int | None = _may(BigInteger())
    deployment: str | None = _may(Text())
    protocol: int | None = _may(BigInteger())
    awaiting: str | None = _may(Text())
    seen: int = _must(BigInteger())
    waiters: str | None = _may(Text())
    failure: str | None = _may(Text())
    journal_kept: int = _must(BigInteger())
    expires_at: int | None = _may(BigInteger())
    journal_expires_at: int | None = _may(BigInteger())
    result: bytes | None = _may(LargeBinary())


class JournalRow(SQLModel, table=True):
    """One entry. `payload`: the bytes a handler gave or got; `detail`: the fields that have no column."""

    __tablename__: ClassVar[str] = "journal"
    __table_args__ = (
        _partial("journal_noted", ("at",), "kind = 'RunCompletion' and detail is not null"),
        _BY_KEY,
    )

    seq: int = _key(BigInteger())
    idx: int = _key(BigInteger())
    kind: str = _must(Text())
    name: str | None = _may(Text())
    branch: str | None = _may(Text())
    completion: int | None = _may(BigInteger())
    detail: str | None = _may(Text())
    at: int = _must(BigInteger())
    payload: bytes | None = _may(LargeBinary())


class AttemptRow(SQLModel, table=True):
    """An attempt that failed; the oldest of many are gone. `number`: the how many-th of its invocation."""

    __tablename__: ClassVar[str] = "attempt"
    __table_args__ = _BY_KEY

    seq: int = _key(BigInteger())
    number: int = _key(BigInteger())
    attempt: int = _must(BigInteger())
    started_at: int | None = _may(BigInteger())
    ended_at: int = _must(BigInteger())
    code: int = _must(BigInteger())
    message: str = _must(Text())
    reason: str | None = _may(Text())
    entry: int | None = _may(BigInteger())
    length: int = _must(BigInteger())
    deployment: str | None = _may(Text())
    node: str = _must(Text())
    retry_at: int | None = _may(BigInteger())


class StateRow(SQLModel, table=True):
    """One state value of a key."""

    __tablename__: ClassVar[str] = "state"
    __table_args__ = (
        _partial(
            "state_of_internal", ("service", "scope", "name", "key"),
            "service >= 'agentdur.' and service < 'agentdur/'",
        ),
        _BY_KEY,
    )  # fmt: skip

    service: str = _key(Text())
    scope: str = _key(Text())
    key: str = _key(Text())
    name: str = _key(Text())
    value: bytes = _must(LargeBinary())


class LockRow(SQLModel, table=True):
    """Who holds a key; a free key has no row."""

    __tablename__: ClassVar[str] = "lock"
    __table_args__ = _BY_KEY

    service: str = _key(Text())
    scope: str = _key(Text())
    key: str = _key(Text())
    holder: str = _must(Text())


class InboxRow(SQLModel, table=True):
    """Who waits for a key: an invocation, or an operator's edit of its state."""

    __tablename__: ClassVar[str] = "inbox"
    __table_args__ = _BY_KEY

    service: str = _key(Text())
    scope: str = _key(Text())
    key: str = _key(Text())
    position: int = _key(BigInteger())
    invocation: str | None = _may(Text())
    edit: str | None = _may(Text())


class PromiseRow(SQLModel, table=True):
    """A durable promise of a workflow key: open while it has neither `result` nor `failure`."""

    __tablename__: ClassVar[str] = "promise"
    __table_args__ = _BY_KEY

    service: str = _key(Text())
    scope: str = _key(Text())
    key: str = _key(Text())
    name: str = _key(Text())
    failure: str | None = _may(Text())
    waiters: str | None = _may(Text())
    result: bytes | None = _may(LargeBinary())


class TimerRow(SQLModel, table=True):
    """What is due when; completion 0 starts a scheduled invocation, others wake a sleep."""

    __tablename__: ClassVar[str] = "timer"
    __table_args__ = _BY_KEY

    at: int = _key(BigInteger())
    seq: int = _key(BigInteger())
    completion: int = _key(BigInteger())


class DeploymentRow(SQLModel, table=True):
    """Where handlers run elsewhere; `record` is JSON."""

    __tablename__: ClassVar[str] = "deployment"
    __table_args__ = _BY_KEY

    id: str = _key(Text())
    record: bytes = _must(LargeBinary())


class MessageRow(SQLModel, table=True):
    """A message of a conversation, stored once. `hash` names it and all before it; `used_at` is when a
    step last referred to it as the end of a conversation, or when it was stored."""

    __tablename__: ClassVar[str] = "message"
    __table_args__ = (Index("message_by_parent", "parent"), Index("message_by_use", "used_at"), _BY_KEY)

    hash: str = _key(Text())
    parent: str = _must(Text())
    used_at: int = _must(BigInteger())
    value: bytes = _must(LargeBinary())


TABLES = (
    InvocationRow,
    JournalRow,
    AttemptRow,
    StateRow,
    LockRow,
    InboxRow,
    PromiseRow,
    TimerRow,
    DeploymentRow,
    MessageRow,
)
