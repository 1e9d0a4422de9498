"""The narrow doors between the layers: what a store must do, and what frontends may ask of the engine.

Rules of this file:
1. A store holds no rules: it loads what was saved. `prepare` runs on the engine's loop, `commit` on its
   writer thread; reads see committed data only and may be called from the loop while a commit runs.
2. Frontends see `Engine`, never a store.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator, Mapping
from typing import Any, Literal, Protocol, Self, TypeAlias

from msgspec import Struct

from agentdur.core.catalog import Catalog
from agentdur.core.edits import NO_TURNS, TurnEdit
from agentdur.core.ids import InvocationId
from agentdur.core.journal import Entry, Headers, Result
from agentdur.core.query import Question, Table
from agentdur.core.search import Findings, Search
from agentdur.core.state import Accepted, Edit, FailedAttempt, Head, ObjectState, PromiseState
from agentdur.core.target import ObjectAddress, PromiseAddress, Target


class Timer(Struct, frozen=True, order=True, gc=False):
    """Due at `at` ms since epoch; completion 0 starts a scheduled invocation, others wake a sleep."""

    at: int
    seq: int
    completion: int
    id: InvocationId = InvocationId("")


class Saved(Struct, frozen=True, gc=False):
    """An invocation's row: `spec` is written when it is `new`, `head` always. Times in ms since epoch."""

    seq: int
    spec: Accepted
    head: Head
    new: bool
    journal_kept: bool
    expires_at: int | None = None
    journal_expires_at: int | None = None


class Writes:
    """One commit, as it is collected. Applied in the order of the fields; all or nothing.

    `invocations`: the last state of each changed one (None: the row goes; rows that go come before new ones,
    an id may come back under another seq). Drops of journals, attempts and inbox places come after what is
    added to them. `values`: None removes one; `values_dropped` comes before `values`, `promise_drops` before
    `promises`.
    """

    __slots__ = (
        "attempt_drops", "attempts", "attempts_gone", "deployments", "inbox", "inbox_drops", "invocations",
        "journal", "journal_drops", "locks", "message_drops", "messages", "promise_drops", "promises",
        "timer_drops", "timers", "values", "values_dropped",
    )  # fmt: skip

    def __init__(self) -> None:
        self.invocations: dict[int, Saved | None] = {}  # by seq
        self.journal: list[tuple[int, int, Entry, int]] = []  # (seq, index, entry, appended at ms)
        self.journal_drops: set[int] = set()
        self.attempts: dict[tuple[int, int], FailedAttempt] = {}  # by (seq, number)
        self.attempt_drops: list[tuple[int, int]] = []
        self.attempts_gone: set[int] = set()  # by seq: all of them
        self.values_dropped: set[ObjectAddress] = set()
        self.values: dict[tuple[ObjectAddress, str], bytes | None] = {}
        self.locks: dict[ObjectAddress, InvocationId | None] = {}
        self.inbox: dict[tuple[ObjectAddress, int], InvocationId | Edit] = {}
        self.inbox_drops: list[tuple[ObjectAddress, int]] = []
        self.promise_drops: set[ObjectAddress] = set()  # before `promises`
        self.promises: dict[PromiseAddress, PromiseState] = {}
        self.timers: set[Timer] = set()
        self.timer_drops: set[Timer] = set()
        self.deployments: dict[str, bytes | None] = {}  # by id: the record, None removes it
        self.message_drops: set[str] = set()  # by hash, before `messages`
        self.messages: dict[str, tuple[str, bytes, int]] = {}  # by hash: (parent, value, used at ms)

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__slots__)


class Row(Struct, frozen=True):
    """A stored invocation: `seq` is the store's short number for it, given by the engine."""

    seq: int
    spec: Accepted
    head: Head
    journal_kept: bool


class Filter(Struct, frozen=True, kw_only=True):
    """Which invocations to list; None means any. `statuses`: values of Status. `internal`: also those of
    agentdur's own services, which are always shown when `service` names one."""

    service: str | None = None
    handler: str | None = None
    key: str | None = None
    deployment: str | None = None
    statuses: tuple[str, ...] = ()
    limit: int = 100
    after_seq: int | None = None
    internal: bool = True


Operation: TypeAlias = Literal["cancel", "kill", "pause", "resume", "purge", "purge-journal"]
"""What an operator does to an invocation."""


class Selection(Struct, frozen=True, kw_only=True):
    """Which invocations are meant; None and () mean any. `statuses`: as they are shown, so that `running`,
    `backing-off` and `ready` are three, and also `succeeded` and `failed`. `created_after`,
    `created_before`: ms since epoch, exclusive. `after`: where a Page ended."""

    service: str | None = None
    handler: str | None = None
    key: str | None = None
    deployment: str | None = None
    statuses: tuple[str, ...] = ()
    created_after: int | None = None
    created_before: int | None = None
    internal: bool = True
    limit: int = 100
    after: int | None = None


class Page(Struct, frozen=True):
    """Invocations, newest first, JSON-able. `after`: there may be more, ask again after this; they may be
    fewer than were asked for."""

    invocations: list[dict[str, Any]]
    after: int | None = None


class Store(Protocol):
    """Durable data. Every method raises StoreError subclasses only."""

    def open(self) -> None:
        """Make it ready: create or migrate, and keep other processes out."""

    def close(self) -> None:
        """Let go; what was committed stays."""

    def prepare(self, writes: Writes) -> Any:
        """Turn a commit into what `commit` needs. Cheap; on the engine's loop."""

    def commit(self, prepared: Any) -> None:
        """Make it durable, all or nothing. Blocking; on the writer thread."""

    def next_seq(self) -> int:
        """A number above every stored one."""

    def invocation(self, invocation: InvocationId) -> Row | None:
        """One invocation by id."""

    def journal(self, seq: int, start: int = 0, limit: int = -1) -> list[tuple[int, Entry]]:
        """Its entries from index `start` on, in order, with their index; at most `limit`, -1: all."""

    def times(self, seq: int, start: int = 0, limit: int = -1) -> list[tuple[int, int]]:
        """(index, appended at in ms since epoch) of its entries from index `start` on; at most `limit`."""

    def attempts(self, seq: int) -> list[FailedAttempt]:
        """Its attempts that failed, as far as they are kept, oldest first."""

    def callees(self, seq: int) -> list[InvocationId]:
        """The ids of all it called or sent to."""

    def object(self, address: ObjectAddress) -> ObjectState | None:
        """Lock and inbox of a key; None when free and empty."""

    def values(self, address: ObjectAddress) -> dict[str, bytes]:
        """All state values of a key."""

    def states(self, service: str, name: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        """(key, value) of that state value of every key above `after` that has it, by key, without scope."""

    def value(self, address: ObjectAddress, name: str) -> bytes | None:
        """One state value of a key."""

    def promise(self, address: PromiseAddress) -> PromiseState | None:
        """One promise; None when nobody has touched it."""

    def running(self) -> Iterator[Row]:
        """All invocations whose status is INVOKED: what recovery starts."""

    def timers(self, limit: int) -> list[Timer]:
        """The earliest `limit` timers."""

    def expired(self, now: int, limit: int) -> tuple[list[Row], list[Row]]:
        """(records past their retention, those whose kept journal is past its own), at most `limit` each."""

    def deployments(self) -> list[bytes]:
        """The records of all deployments, in the order of their ids."""

    def conversation(self, head: str) -> list[bytes] | None:
        """The messages up to the one with this hash, in order; None when one of them is not there."""

    def unused_messages(self, before: int, limit: int) -> list[str]:
        """Hashes of messages that no other one follows and that were last used before then (ms since
        epoch)."""

    def list(self, which: Filter) -> Iterable[Row]:
        """Newest first."""

    def count(self) -> dict[str, int]:
        """Stored invocations by status value."""

    def query(self, question: Question) -> Table:
        """Answer a question in SQL, as committed. Blocking, on any thread; CallerError when it may not be
        asked, or takes more than it may."""

    def search(self, what: Search) -> Findings:
        """Look for text, as committed. Blocking, on any thread; NotRunning when it was stopped."""


class Request(Struct, frozen=True, kw_only=True, gc=False):
    """A submission from outside. `target` comes from the catalog; `delay_ms` None: now."""

    target: Target
    value: bytes = b""
    headers: Headers = ()
    idempotency_key: str | None = None
    delay_ms: int | None = None


class Answer(Struct, frozen=True, gc=False):
    """An invocation's end. `expires_at` (ms since epoch) only when it was read from a stored completion."""

    id: InvocationId
    result: Result
    expires_at: int | None = None
    target: Target | None = None


class Receipt(Struct, frozen=True, gc=False):
    """A submission that is durable. `execute_at` in ms since epoch, None when no delay was given."""

    id: InvocationId
    fresh: bool
    execute_at: int | None = None


class StreamEvent(Struct, frozen=True, gc=False):
    """What happens in the stream of an invocation.

    `chunk`: data, sent live by a step that runs, or from the journal. `commit`: what was sent for this step
    is final. `void`: what was sent for this step is not, drop it. `end`: the result (`data`), the last event.
    `step`, `branch`: where it was sent; `run` tells steps of one name and branch apart; `attempt`: by which
    attempt, 0 when it comes from the journal. `id`: who asks again with it gets what comes after, and `void`
    for what was open.
    """

    id: str
    kind: Literal["chunk", "commit", "void", "end"]
    step: str = ""
    branch: str = ""
    attempt: int = 0
    data: Any = None
    run: int = 0


class Stream(Protocol):
    """The events of one reader. Cancelling a wait loses nothing; close it when it is not read to its end."""

    over: bool
    """Nothing more is read: the end was, or it was closed."""

    def __aiter__(self) -> Self:
        """To be read once."""

    async def __anext__(self) -> StreamEvent:
        """Wait for the next one."""

    def ready(self) -> list[StreamEvent]:
        """Those that need no wait."""

    def close(self) -> None:
        """Read no more; who waits is told that it is over."""


class Watch(Protocol):
    """One invocation, as somebody looks at it while it goes on. Close it when nobody does any more.

    Raises StoreError and NotRunning when the store fails or the engine stops."""

    async def changed(self, seconds: float) -> bool:
        """Until something of it was committed, at most so long; False when nothing was."""

    async def summary(self) -> dict[str, Any] | None:
        """As `Engine.list` shows it; None when there is no record."""

    async def rows(self, after: int, limit: int, preview: int) -> list[dict[str, Any]]:
        """Journal entries behind index `after`, JSON-able, at most `limit`. A payload of more than `preview`
        bytes is counted, and only its beginning shown."""

    async def failed_attempts(self) -> list[dict[str, Any]]:
        """The attempts that failed, JSON-able, oldest first; when the first one is not number 1, those before
        it are not kept any more."""

    def close(self) -> None:
        """Watch no more."""


class Engine(Protocol):
    """What frontends may ask. Awaitables complete when what they say is durable; cancelling them is free.

    Raises CallerError subclasses for what the caller did wrong, StoreError when the store fails.
    """

    @property
    def catalog(self) -> Catalog:
        """What is served now."""

    def call(self, request: Request) -> tuple[InvocationId, Awaitable[Answer]]:
        """Submit and wait for the end. A second call of a workflow's run answers 409 at once."""

    def send(self, request: Request) -> tuple[InvocationId, Awaitable[Receipt]]:
        """Submit; the receipt comes when it is durable."""

    def lookup(self, target: Target, idempotency_key: str | None) -> InvocationId:
        """The id a workflow run or idempotent request has, whether or not it exists."""

    async def attach(self, invocation: InvocationId) -> Answer:
        """Wait for the end; UnknownInvocation when there is no record."""

    async def output(self, invocation: InvocationId) -> Answer | None:
        """The end if it is there, None while it is not; UnknownInvocation when there is no record."""

    def stream(self, invocation: InvocationId, after: str | None = None) -> Stream:
        """What the invocation streams, from its beginning or after the event of this id, to its end. Raises
        UnknownInvocation, JournalGone, BadRequest (the id) and Overloaded at once; StoreError and NotRunning
        also later, when it is to be asked for again."""

    async def signal(self, invocation: InvocationId, signal: int | str, result: Result) -> None:
        """Complete an awakeable (signal index) or a named signal; silently nothing when nobody is there."""

    async def settle(self, promise: PromiseAddress, result: Result) -> bool:
        """Complete a durable promise; False when it was completed before."""

    async def states(
        self, service: str, name: str, *, after: str = "", limit: int = 100
    ) -> list[tuple[str, bytes]]:
        """(key, value) of that state value of every key above `after` that has it, by key."""

    async def state(self, service: str, key: str, name: str) -> bytes | None:
        """One state value of a key, as committed; None when it is absent."""

    async def values(self, key: ObjectAddress) -> tuple[str, dict[str, bytes]]:
        """(version, all state values) of a key, as committed; the version goes along with an edit."""

    async def edit_state(self, key: ObjectAddress, values: dict[str, bytes], version: str | None) -> None:
        """Replace a key's whole state when no exclusive handler runs there, after those that wait. With a
        version, silently nothing when the state is another one by then. ValueTooLarge."""

    async def describe(self, invocation: InvocationId) -> dict[str, Any] | None:
        """Everything known about one invocation, JSON-able: status, times, journal, attempts."""

    def watch(self, invocation: InvocationId) -> Watch:
        """Look at one invocation while it goes on, whether or not it is there."""

    async def conversation(self, head: str) -> list[Any] | None:
        """The messages that a model step's note refers to (`conversation`), JSON-able, in order; None when
        they are not stored: swept, or never kept because the step ran elsewhere."""

    async def list(self, which: Filter) -> list[dict[str, Any]]:
        """Newest first, JSON-able, without journals."""

    async def select(self, which: Selection) -> Page:
        """The invocations that are meant, some at a time."""

    async def operate(
        self,
        action: Operation,
        invocation: InvocationId,
        deployment: str = "keep",
        *,
        dry_run: bool = False,
    ) -> bool:
        """Do it. True: done. False: under way (cancel of one that runs). Raises UnknownInvocation,
        WrongStatus, TooEarly. `deployment`: where a resumed one goes on, `keep`, `latest` or an id.
        `dry_run`: answers and raises as if, and changes nothing."""

    async def restart_as_new(
        self,
        invocation: InvocationId,
        from_entry: int = 0,
        deployment: str = "latest",
        *,
        dry_run: bool = False,
    ) -> InvocationId:
        """A new invocation with the same input and the journal up to `from_entry`; of a dry run the old
        one."""

    async def fork(
        self,
        invocation: InvocationId,
        from_entry: int | None,
        edits: Mapping[int, bytes],
        deployment: str = "latest",
        *,
        turns: Mapping[int, TurnEdit] = NO_TURNS,
    ) -> InvocationId:
        """As `restart_as_new`, with other values in the journal: by index, of the input or of results of
        steps, calls and signals up to `from_entry`; and with `turns` of models that are asked otherwise, by
        the index of their step or its answer, behind it. None: all that can be kept. Also of one that is
        suspended or paused, which stays as it is. Raises BadRequest for an entry that holds no such value,
        NotEditable for a turn that cannot be asked so, ValueTooLarge."""

    async def query(self, sql: str) -> Table:
        """Answer a question in SQL over the `sys_` tables. Raises BadQuery, QueryNotAllowed, UnknownInQuery,
        and what says that it takes more than it may."""

    async def search(self, what: Search) -> tuple[Findings, dict[str, dict[str, Any]]]:
        """Look for text, and the invocations it was found in, by id, as `list` shows them; one that is gone
        meanwhile is not there. The engine says how long it looks. Raises QueriesBusy."""
