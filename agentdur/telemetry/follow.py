"""From commits to facts: which invocation began, which of its entries was completed, how it ended.

Rules of this file:
1. A fact is told once: a replay commits nothing. Only what an earlier process may have told and not sent is
   told again (`again`), once, when the invocation is first met here; the ids of its spans are the same.
2. What is known of an invocation is forgotten when it leaves memory, so that parked ones cost nothing here.
3. Copied entries of a restarted invocation are not its own: nothing is told of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from agentdur.core import journal as j
from agentdur.core.catalog import is_internal
from agentdur.core.effects import Append, Effect, Finished, KeepMessages, Start
from agentdur.core.ids import InvocationId
from agentdur.core.state import Head, Invocation, Status
from agentdur.core.trace import STATE_HEADER, is_sampled, parent_of
from agentdur.observe.observer import Found, Left, Moved, Said
from agentdur.telemetry.genai import agent_of

SEEN_MAX = 100_000
"""Invocations of earlier processes that are known to have been told again."""
APPROVALS = "agentdur.Approval"
FAILURES_MAX = 32
"""Failed attempts that the span of one invocation shows; the last ones."""
_SILENT = frozenset(
    {
        j.Input, j.Output, j.GetEagerState, j.SetState, j.ClearState, j.ClearAllState, j.GetEagerStateKeys,
        j.SendSignal, j.CompleteAwakeable,
    }
)  # fmt: skip
"""Entries that nothing answers."""


class Failed(Struct, frozen=True, gc=False):
    """A failed attempt. Times in ms since the epoch."""

    at: int
    attempt: int
    error: j.Failure
    retry_at: int | None
    paused: bool


class Asked(Struct, frozen=True, gc=False):
    """A question to a person, opened at `at` by the entry with this completion id."""

    completion: int
    branch: str
    at: int
    tool: str


class _Question(Struct):
    """What the judge of approvals is told, as far as it matters here."""

    signal: int | str
    tool: str = ""


class Live:
    """An invocation that is in memory. `open`: by completion id, the entry that waits for it and since when;
    `callees`: by completion id of a call, whom it called; `questions`: by the signal that answers."""

    # What most never change stays on the class: making one is on the path of every invocation.
    callees: dict[int, InvocationId] | None = None
    failures: list[Failed] | None = None
    questions: dict[int | str, Asked] | None = None
    input = b""
    trace_state = ""
    agent = ""
    """Whose model was asked last."""
    arguments: dict[str, str] | None = None
    """By the id of a tool call: what the model wants the tool to be given."""
    head: Any = None
    """Kept here by who writes spans."""

    def __init__(self, state: Invocation) -> None:
        spec = self.spec = state.spec
        self.one_way = spec.invoked_by == "service" and not state.head.waiters
        self.traced = is_sampled(spec.traceparent) and not is_internal(spec.target.service)
        self.open: dict[int, tuple[j.AnyCommand, int]] = {}


class Done:
    """An entry and what came back to it."""

    __slots__ = ("began", "completion", "ended", "entry", "messages")

    def __init__(
        self, entry: j.AnyCommand, began: int, completion: j.Completion, ended: int,
        messages: tuple[j.ChatMessage, ...] = (),
    ) -> None:  # fmt: skip
        self.entry, self.began, self.completion, self.ended = entry, began, completion, ended
        self.messages = messages


_QUESTION = msgspec.json.Decoder(_Question)


class Listener(Protocol):
    """Hears facts, as far as it has methods for them. Times in ms since the epoch.

    `begun(live)`: accepted. `attempt(live)`: an attempt starts. `failed(live, failed)`: an attempt failed.
    `plain(live, step, began, completion, at)`: a step of the handler itself went well and noted nothing,
    which is most of what there is to hear. `done(live, done, again)`: any other entry was completed;
    `again`: an earlier process may have told it. `decided(live, asked, signal, at, again)`: a question was
    decided. `ended(live, head, result, at)`: it has a result.
    """

    @property
    def hears(self) -> tuple[str, ...]:
        """The facts it has methods for."""


def _those(listeners: Iterable[Listener], fact: str) -> tuple[Any, ...]:
    return tuple(getattr(listener, fact) for listener in listeners if fact in listener.hears)


class Follower:
    """Follows all invocations of one engine. `contents`: the listeners want to know what was said."""

    def __init__(self, listeners: Iterable[Listener], contents: bool = False) -> None:
        told = tuple(listeners)
        self._contents = contents
        self._begun, self._attempt, self._ended_ = (
            _those(told, name) for name in ("begun", "attempt", "ended")
        )
        self._plain, self._done, self._decided = (_those(told, name) for name in ("plain", "done", "decided"))
        self._failures = _those(told, "failed")
        self._live: dict[int, Live] = {}
        self._first = 1 << 62
        """The number of the first invocation that began here; later ones have higher ones."""
        self._seen: dict[int, None] = {}

    @property
    def size(self) -> int:
        """Invocations that something is kept of."""
        return len(self._live)

    def forget(self) -> None:
        """The engine lost its memory."""
        self._live.clear()

    def hear(self, said: Iterable[Said]) -> None:
        """What was committed."""
        for one in said:
            if type(one) is Moved:
                self._transition(one)
            elif isinstance(one, Left):
                for seq in one.seqs:
                    self._live.pop(seq, None)
            elif isinstance(one, Found):
                self._found(one)

    def _transition(self, moved: Moved) -> None:
        seq, before, after, at = moved.seq, moved.before, moved.after, moved.at
        effects = moved.effects
        live = self._live.get(seq)
        copied = False
        if live is None:
            known = before or after
            if known is None or known.head.result is not None:
                return
            live = self._live[seq] = Live(known)
            if before is None:
                copied = known.spec.restarted_from is not None
                self._first = min(self._first, seq)
                for hear in self._begun:
                    hear(live)
        for effect in effects:
            kind = type(effect)
            if kind is Append:
                if copied:
                    continue
                entry = effect.entry  # type: ignore[union-attr]  # it is an Append
                if type(entry) is j.Run:
                    live.open[entry.completion] = (entry, at)
                elif type(entry) is j.Completion:
                    self._completed(live, entry, at, effects)
                elif type(entry) is not j.Output:
                    self._entry(live, entry, at)
            elif kind is Start:
                for hear in self._attempt:
                    hear(live)
            elif kind is Finished:
                self._ended(seq, live, after, effect, at)  # type: ignore[arg-type]  # it is a Finished
        if before is not None and after is not None and after.head is not before.head:
            error = after.head.last_failure
            if error is not None and error is not before.head.last_failure:
                self._failed(live, after.head, error, at)

    def _entry(self, live: Live, entry: j.Entry, at: int, again: bool = False) -> None:
        if isinstance(entry, j.Signal):
            asked = live.questions.pop(entry.signal, None) if live.questions else None
            if asked is not None:
                for hear in self._decided:
                    hear(live, asked, entry, at, again)
        elif isinstance(entry, j.Input):
            self._given(live, entry)
        elif isinstance(entry, j.Call):
            live.open[entry.id_completion] = live.open[entry.completion] = (entry, at)
        elif isinstance(entry, j.OneWayCall):
            live.open[entry.id_completion] = (entry, at)
            if entry.service == APPROVALS and entry.handler == "open":
                self._asked(live, entry, at)
        elif type(entry) not in _SILENT:
            waits: Any = entry
            live.open[waits.completion] = (waits, at)

    def _given(self, live: Live, entry: j.Input) -> None:
        if self._contents:
            live.input = entry.value
        spec = live.spec
        if spec.invoked_by == "ingress" and live.traced and parent_of(spec.traceparent):
            live.trace_state = dict(entry.headers).get(STATE_HEADER, "")

    def _asked(self, live: Live, entry: j.OneWayCall, at: int) -> None:
        try:
            question = _QUESTION.decode(entry.parameter)
        except msgspec.MsgspecError:  # the journal of another version
            return
        if live.questions is None:
            live.questions = {}
        live.questions[question.signal] = Asked(entry.id_completion, entry.branch, at, question.tool)

    def _completed(
        self, live: Live, entry: j.Completion, at: int, beside: tuple[Effect, ...], again: bool = False
    ) -> None:
        began = live.open.pop(entry.id, None)
        if began is None:
            return
        command, since = began
        outcome = entry.outcome
        if type(command) is j.Run:
            if beside and not (entry.meta or command.branch) and type(outcome) is j.Success:
                for hear in self._plain:
                    hear(live, command, since, entry, at)
                return
            if command.name.startswith(j.MODEL_STEP):
                live.agent = agent_of(command.name)
        elif type(outcome) is j.CalleeId and isinstance(command, j.Call | j.OneWayCall):
            if live.callees is None:
                live.callees = {}
            owner = command.completion if isinstance(command, j.Call) else command.id_completion
            live.callees[owner] = outcome.invocation_id
            if isinstance(command, j.Call):
                return  # its own completion is another one
        messages = _said(entry, beside) if self._contents and entry.meta else ()
        done = Done(command, since, entry, at, messages)
        for hear in self._done:
            hear(live, done, again)

    def _failed(self, live: Live, head: Head, error: j.Failure, at: int) -> None:
        failed = _failure(head, error, at)
        live.failures = [*(live.failures or ())[1 - FAILURES_MAX :], failed]
        for hear in self._failures:
            hear(live, failed)

    def _ended(self, seq: int, live: Live, after: Invocation | None, effect: Finished, at: int) -> None:
        del self._live[seq]
        head = None if after is None else after.head
        ended = at if head is None or head.completed_at is None else head.completed_at
        for hear in self._ended_:
            hear(live, head, effect.result, ended)

    def _found(self, found: Found) -> None:
        again = found.seq < self._first and found.seq not in self._seen
        if again:
            self._seen[found.seq] = None
            while len(self._seen) > SEEN_MAX:
                del self._seen[next(iter(self._seen))]
        spec, head = found.state.spec, found.state.head
        live = self._live[found.seq] = Live(found.state)
        done, decided = self._done, self._decided
        if not again:
            self._done = self._decided = ()  # they have heard all this
        for index, entry in found.entries:
            at = found.times.get(index, spec.created_at)
            if spec.restarted_from is not None and at <= spec.created_at:
                continue
            if isinstance(entry, j.Completion):
                self._completed(live, entry, at, (), again)
            else:
                self._entry(live, entry, at, again)
        self._done, self._decided = done, decided
        if head.failures and head.last_failure is not None:
            live.failures = [_failure(head, head.last_failure, head.modified_at)]


def _said(entry: j.Completion, beside: tuple[Effect, ...]) -> tuple[j.ChatMessage, ...]:
    """The conversations that are stored with a step's result."""
    found = False
    for effect in beside:
        if found:
            return effect.messages if isinstance(effect, KeepMessages) else ()
        found = isinstance(effect, Append) and effect.entry is entry
    return ()


def _failure(head: Head, error: j.Failure, at: int) -> Failed:
    return Failed(at, head.attempt, error, head.retry_at, head.status is Status.PAUSED)
