"""One attempt elsewhere: what its frames mean for the invocation, and what the invocation has to tell it.

Rules of this file:
1. Frames become messages to the machine; no rule is decided here. What arrived in one piece is one proposal.
2. What goes to the handler waits for the commit that holds it: `say` keeps it until then, in order.
3. Whatever is wrong with the other side fails the attempt, with the service protocol's code; the engine and
   the other attempts do not notice.
4. Who says more than is committed gets no room to say even more (`Exchange.consumed`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Protocol

from agentdur.core import journal as j
from agentdur.core.errors import FutureTooDeep, MessageTooLarge, ProtocolError, ProtocolViolation
from agentdur.core.ids import InvocationId
from agentdur.runtime.remote.transport import Exchange, TransportFailed
from agentdur.sdk.failure import Failed
from agentdur.wire import messages as m
from agentdur.wire.codec import decode, encode
from agentdur.wire.frames import REQUESTED_ACK, Frame, FrameReader

_ACKS_FROM = 7
_MISMATCH, _VIOLATION = 570, 571
_STATUS_CODES = {
    413: "RT0019", 415: "RT0015", 429: "RT0023", 502: "RT0010", 503: "RT0023", 504: "RT0010",
}  # fmt: skip
_WAITS = frozenset({429, 503})
RETRY_AFTER_SECONDS_MAX = 24 * 3600


class Driver(Protocol):
    """What an attempt needs of its driver."""

    def propose(self, attempt: RemoteAttempt, entries: tuple[j.Proposal, ...], end: bool) -> None:
        """Store what the handler did."""

    def suspend(self, attempt: RemoteAttempt, awaiting: j.Awaiting, seen: int) -> None:
        """It leaves."""

    def fail(self, attempt: RemoteAttempt, failed: Failed) -> None:
        """It is over, and tried again by policy."""

    def heard(self, attempt: RemoteAttempt) -> None:
        """Something arrived."""

    def stored(self, attempt: RemoteAttempt) -> int:
        """The number of the commit that is being collected; `speak` is called when it is done."""

    def after(self, action: Callable[[], None]) -> None:
        """Call this when what is stored now is durable."""

    def finished(self, attempt: RemoteAttempt) -> None:
        """It has said how it ended; its exchange may not have ended yet."""

    def left(self, attempt: RemoteAttempt) -> None:
        """It is closed, or its exchange has ended."""

    def now_ms(self) -> int:
        """ms since the epoch."""


class RemoteAttempt:
    """What the machine sees as the attempt of a slot, and the transport as the receiver of an exchange."""

    def __init__(
        self, driver: Driver, invocation: InvocationId, number: int, slot: Any, body_max: int
    ) -> None:
        self.driver, self.id, self.number, self.slot = driver, invocation, number, slot
        self.closed = False
        self.deployment: Any = None
        self.version = 0
        self.last = 0
        """When something was last said or heard: ms since the epoch."""
        self.inactivity_ms = self.abort_ms = 0
        """After how much silence it is asked to leave; after how much more it is aborted."""
        self.half_closed = False
        self._awaiting: j.Awaiting | None = None
        self.commands = 0
        """How many commands its journal has: the place of the next one."""
        self.seen = 0
        self.told = 0
        """The commit at which it will speak next."""
        self.runs: set[int] = set()
        """Steps that wait for a result."""
        self.pinned = False
        self.exchange: Exchange | None = None
        self.unsaid: list[tuple[int, bytes, int]] = []
        """(commit, frame, journal length known with it): waits for its commit."""
        self._frames = FrameReader(body_max)
        self._proposal: list[j.Proposal] = []
        self._held = 0
        """Bytes that arrived, and that the peer has no room for again yet."""

    # -- to the handler

    def begin(self, exchange: Exchange, journal: bytes, *, open_ended: bool) -> None:
        """Send the Start and all that is known."""
        self.exchange = exchange
        exchange.write(journal)
        if not open_ended:
            self.half_close()

    def half_close(self) -> None:
        """Nothing more will be said: it shall leave when it has to wait."""
        if not self.half_closed and self.exchange is not None:
            self.half_closed = True
            self.exchange.end()

    def say(self, word: m.Word, known: int = 0) -> None:
        """Tell the handler, once the commit that is being collected is durable."""
        if not self.closed and not self.half_closed:
            self.unsaid.append((self.driver.stored(self), encode(word, self.version), known))

    def speak(self, committed: int) -> None:
        """Everything up to that commit may be said."""
        out = []
        while self.unsaid and self.unsaid[0][0] <= committed:
            _, frame, known = self.unsaid.pop(0)
            out.append(frame)
            self.seen = max(self.seen, known)
        if out and not self.closed and not self.half_closed and self.exchange is not None:
            self.driver.heard(self)
            self.exchange.write(b"".join(out))

    def awaiting(self) -> j.Awaiting | None:
        """What the handler has said it waits for; None when it has not, or something came since."""
        return self._awaiting

    def deliver(self, index: int, notification: j.Notification) -> None:
        """The machine stored this."""
        self._awaiting = None
        self.say(notification, index + 1)

    def finish(self) -> None:
        """It has said how it ended."""
        self.closed = True
        self._give_room(self._held)
        if self.exchange is not None:
            self.exchange.end()
        self.driver.finished(self)

    def close(self) -> None:
        """It may say nothing any more."""
        if not self.closed:
            self.closed = True
            self.drop()
            self.driver.left(self)

    def drop(self) -> None:
        """End the exchange at once."""
        self._give_room(self._held)
        if self.exchange is not None:
            self.exchange.abort()

    def _give_room(self, size: int) -> None:
        size = min(size, self._held)
        self._held -= size
        if size and self.exchange is not None:
            self.exchange.consumed(size)

    # -- from the handler (transport.Receiver)

    def response(self, status: int, headers: dict[str, str]) -> None:
        """The head of the answer: anything but our own content type is a failure."""
        expected = f"application/vnd.restate.invocation.v{self.version}"
        if status != 200:
            delay_ms = None
            if status in _WAITS:
                delay_ms = retry_after(headers.get("retry-after", ""), self.driver.now_ms())
            detail = f"the deployment answered with status {status}"
            self._fail(detail, _STATUS_CODES.get(status, "RT0012"), delay_ms)
        elif headers.get("content-type") != expected:
            self._fail(f"unexpected content type {headers.get('content-type')!r}", "RT0012")

    def data(self, chunk: bytes) -> None:
        """Frames, or pieces of them."""
        self._held += len(chunk)
        if self.closed:  # surplus
            self._give_room(len(chunk))
            return
        frames = 0
        try:
            for frame in self._frames.feed(chunk):
                if not frames:
                    self.driver.heard(self)  # a piece of a message that never ends is no sign of life
                frames += 1
                if not self._take(frame):
                    return
            self._propose()
        except MessageTooLarge as error:
            self._fail(str(error), "RT0003")
        except FutureTooDeep as error:
            metadata = (("restate_code", "RT0025"), ("agentdur_code", error.code))
            self.driver.fail(self, Failed(error=j.Failure(500, str(error), metadata), pause=True))
        except ProtocolError as error:
            self._fail(str(error), "RT0012")
        if frames and not self.closed:
            self.driver.after(partial(self._give_room, len(chunk)))
        else:  # a piece of a large one: the reader has its own limit
            self._give_room(len(chunk))

    def ended(self) -> None:
        """The answer is complete: it should have said how the attempt ended."""
        if not self.closed:
            self._fail("the stream ended without Suspension, Error or End", "RT0007")
        self.driver.left(self)

    def lost(self, error: TransportFailed) -> None:
        """The connection failed."""
        if not self.closed:
            self._fail(str(error), "RT0010")
        self.driver.left(self)

    def _fail(self, detail: str, code: str, delay_ms: int | None = None) -> None:
        failure = j.Failure(500, f"[{code}] {detail}", (("restate_code", code),))
        self.driver.fail(self, Failed(error=failure, delay_ms=delay_ms))

    # -- frames

    def _take(self, frame: Frame) -> bool:
        """One frame; False when the attempt is over with it."""
        word = decode(frame, self.version)
        if isinstance(word, j.Command):
            self.commands += 1
            if frame.flags & REQUESTED_ACK:
                self._propose()
                self.say(m.CommandAck(self.commands - 1))  # before anything that the command brings about
                self._proposal.append(word)
                self._propose()
                return not self.closed
            self._proposal.append(word)
            return True
        if isinstance(word, m.ProposeRunCompletion):
            self._proposal.append(j.RunResult(word.completion, word.result))
            if frame.flags & REQUESTED_ACK and self.version >= _ACKS_FROM:
                self._propose(m.ProposeRunCompletionAck(word.completion))
            else:
                self._propose(j.Completion(word.completion, "Run", word.result))
            return not self.closed
        if isinstance(word, m.End):
            entries, self._proposal = tuple(self._proposal), []
            self.driver.propose(self, entries, True)
            return False
        if isinstance(word, m.Suspension):
            self._propose()
            if not self.closed:
                self.driver.suspend(self, word.awaiting, self.seen)
            return False
        if isinstance(word, m.Error):
            self._propose()
            if not self.closed:
                self._told(word)
            return False
        if isinstance(word, m.AwaitingOn):
            self._awaiting = word.awaiting
            return True  # shown; nothing depends on it
        raise ProtocolViolation(f"{type(word).__name__} is the server's to say")

    def _propose(self, answer: m.Word | None = None) -> None:
        """Store what has come so far; `answer` goes back when that is durable."""
        entries, self._proposal = tuple(self._proposal), []
        if entries:
            self.driver.propose(self, entries, False)
        if answer is not None and not self.closed:
            length = self.slot.state.length if self.slot.state is not None else 0
            self.say(answer, length if isinstance(answer, j.Completion) else 0)

    def _told(self, word: m.Error) -> None:
        codes = {_MISMATCH: "RT0016", _VIOLATION: "RT0012"}
        code = codes.get(word.code, "RT0007")
        metadata: tuple[tuple[str, str], ...] = (("restate_code", code),)
        if word.related_command_index is not None:
            metadata += (("related_command_index", str(word.related_command_index)),)
        if word.related_command_name:
            metadata += (("related_command_name", word.related_command_name),)
        kept = word.code if word.code <= 65_535 else 500
        failure = j.Failure(kept, word.message, metadata, word.stacktrace)
        failed = Failed(
            error=failure, delay_ms=word.next_retry_delay_ms, pause=word.behavior == "pause",
            final=word.behavior == "fail",
        )  # fmt: skip
        self.driver.fail(self, failed)


def retry_after(text: str, now_ms: int) -> int | None:
    """`Retry-After` in ms: seconds, or a date."""
    text = text.strip()
    if not text:
        return None
    if text.isdigit():
        return min(int(text), RETRY_AFTER_SECONDS_MAX) * 1000
    try:
        seconds = parsedate_to_datetime(text).timestamp() - now_ms / 1000
    except (ValueError, TypeError, OverflowError):
        return None
    return None if math.isnan(seconds) else int(max(0.0, min(seconds, RETRY_AFTER_SECONDS_MAX)) * 1000)
