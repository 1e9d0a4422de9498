"""An attempt driven by frames: what the handler does goes out, what happens to it comes in.

Rules of this file:
1. The order of notifications is the order in which they arrive: it decides races, and a later replay has the
   same. Places in the journal are counted here; only their order means anything.
2. A step's action starts when its command is written and every result before it is acknowledged; a result
   that is not acknowledged may be lost, and then the step runs again.
3. When nothing more can arrive (request and response, or the server has closed its side) an attempt that only
   waits leaves, and says for what.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec.structs import replace

from agentdur.core import journal as j
from agentdur.core.errors import ProtocolViolation
from agentdur.core.ids import InvocationId
from agentdur.core.replay import Recorded
from agentdur.core.target import Target
from agentdur.sdk.attempt import Attempt
from agentdur.sdk.context import CONTEXTS, Limits
from agentdur.sdk.failure import Failed
from agentdur.sdk.service import Handler
from agentdur.sdk.told import KEPT_ENDS, Told
from agentdur.sdk.traced import Traced
from agentdur.wire import messages as m
from agentdur.wire.codec import decode, encode
from agentdur.wire.frames import REQUESTED_ACK, Frame

_TURNS_OF_REST = 3
"""Turns of the loop in which a branch that can go on does so, before an attempt is taken to be waiting."""
_ACKS_FROM = 7


class _Failures(dict[int, Any]):
    """How often the step that is under way has failed: the server counts, each attempt may run elsewhere."""

    def __init__(self, start: m.Start, now: float) -> None:
        super().__init__()
        self._before = (start.retry_count, now - start.duration_ms / 1000)

    def get(self, completion: int, default: Any = None) -> Any:
        """(failures, since when) of a step."""
        return super().get(completion, self._before if self._before[0] else default)


class FrameDriver:
    """Drives one attempt (`sdk.attempt.Driver`). `write` takes bytes for the server, `finished` is called
    once, after the last of them."""

    def __init__(
        self,
        version: int,
        handler: Handler,
        write: Callable[[bytes], None],
        finished: Callable[[], None],
        messages_ms: int = 0,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.version, self.handler = version, handler
        self._write, self._finished = write, finished
        self._start: m.Start | None = None
        self.traced: Traced | None = None
        self._entries: list[tuple[int, j.Entry]] = []
        self._attempt: Attempt | None = None
        self._length = 0
        self._state: dict[str, bytes | None] = {}
        self._messages_ms = messages_ms
        self._told: Told | None = None
        self._proposed: dict[int, j.Result] = {}
        self._acknowledged: asyncio.Future[None] | None = None
        self._blocked = 0
        self._input_open = True
        self._checking = False
        self._over = False

    # -- what arrives

    def frame(self, frame: Frame) -> None:
        """The server said this. ProtocolError when it may not."""
        word = decode(frame, self.version, branches=True)
        if isinstance(word, j.Completion) and isinstance(word.outcome, j.Keys):
            word = _without_ours(word, word.outcome)
        if self._attempt is not None:
            self._live(word)
        elif self._start is None:
            if not isinstance(word, m.Start) or word.known_entries < 1:
                raise ProtocolViolation("an attempt begins with a Start and at least one entry")
            self._start = word
        elif not isinstance(word, j.Command | j.Completion | j.Signal):
            raise ProtocolViolation(f"{type(word).__name__} within the journal")
        else:
            self._entries.append((len(self._entries), word))
            if len(self._entries) == self._start.known_entries:
                self._begin(self._start)

    def _begin(self, start: m.Start) -> None:
        entries, self._entries = self._entries, []
        if not isinstance(entries[0][1], j.Input):
            raise ProtocolViolation("a journal begins with its input")
        handler, service = self.handler, self.handler.service
        target = Target(
            service.name, handler.name, start.key or None, service.service_kind, handler.kind,
            start.scope or "",
        )  # fmt: skip
        self._length = len(entries)
        self._state = dict(start.state)
        ends = self._state.pop(KEPT_ENDS, None)
        attempt = Attempt(self, InvocationId(start.debug_id), 1, target, Recorded(entries))
        attempt.partial_state = start.partial_state
        attempt.seed_value = start.random_seed
        attempt.step_failures = _Failures(start, self.loop.time())
        attempt.traced = self.traced
        if self._messages_ms:
            self._told = Told(attempt, self._messages_ms, ends)
            if ends is None and attempt.partial_state:
                attempt.telling = self._told.look
        self._attempt = attempt
        context = CONTEXTS[(target.service_kind, target.handler_kind)]
        context(attempt, Limits(), start.idempotency_key)
        attempt.begin(handler)

    def _live(self, word: m.Word) -> None:
        attempt = self._attempt
        assert attempt is not None
        if self._over:
            return
        index = self._length
        self._length += 1
        if isinstance(word, m.ProposeRunCompletionAck):
            result = self._proposed.get(word.completion)
            if result is None:
                raise ProtocolViolation(f"result {word.completion} was not proposed")
            word = j.Completion(word.completion, "Run", result)
        if isinstance(word, j.Completion):
            self._acknowledge(word.id)
        elif not isinstance(word, j.Signal):
            if isinstance(word, m.CommandAck):
                return
            raise ProtocolViolation(f"{type(word).__name__} within an attempt")
        attempt.deliver(index, word)

    def _acknowledge(self, completion: int) -> None:
        self._proposed.pop(completion, None)
        if not self._proposed and self._acknowledged is not None:
            if not self._acknowledged.done():
                self._acknowledged.set_result(None)
            self._acknowledged, self._blocked = None, 0

    def input_closed(self) -> None:
        """Nothing more will arrive."""
        if self._attempt is None and not self._over:
            raise ProtocolViolation("the request ended within the journal")
        self._input_open = False
        self._look()

    def lost(self) -> None:
        """Nobody listens any more."""
        self._over = True
        if self._attempt is not None:
            self._attempt.close()

    # -- sdk.attempt.Driver

    def propose(self, attempt: Attempt, entries: tuple[j.Proposal, ...], end: bool) -> None:
        """Write what the handler did."""
        out = []
        for entry in entries:
            if isinstance(entry, j.RunResult):
                out += self._result(entry)
                continue
            if isinstance(entry, j.ClearAllState) and self._told is not None:
                out += map(self._command, self._told.cleared())
            out.append(self._command(entry))
            if isinstance(entry, j.SetState | j.ClearState | j.ClearAllState):
                self._written(attempt, entry)
        if end:
            out.append(encode(m.End(), self.version))
        self._write(b"".join(out))

    def _result(self, entry: j.RunResult) -> list[bytes]:
        """What a step brought, and what of its conversation the server does not have."""
        self._proposed[entry.completion] = entry.result
        flags = REQUESTED_ACK if self.version >= _ACKS_FROM else 0
        result = encode(m.ProposeRunCompletion(entry.completion, entry.result), self.version, flags)
        if not entry.messages or self._told is None:
            return [result]
        there, made = self._told.sends(entry, self.now())
        told = [self._command(command) for command in made]
        return [*told, result] if there else [result, *told]

    def _command(self, command: j.AnyCommand) -> bytes:
        self._length += 1
        return encode(command, self.version, branches=True)

    def _written(self, attempt: Attempt, entry: j.SetState | j.ClearState | j.ClearAllState) -> None:
        if isinstance(entry, j.SetState):
            self._state[entry.key] = entry.value
        elif isinstance(entry, j.ClearState):
            self._state[entry.key] = None
        else:
            self._state.clear()
            attempt.partial_state = False

    def now(self) -> int:
        """ms since the epoch."""
        return int(time.time() * 1000)

    def buffering(self, attempt: Attempt) -> None:
        """It has something to say: in the next turn of the loop, at the latest."""
        self.loop.call_soon(attempt.flush)

    def durable(self, attempt: Attempt) -> Awaitable[None] | None:
        """Until every result is acknowledged."""
        if not self._proposed:
            return None
        if self._acknowledged is None:
            self._acknowledged = self.loop.create_future()
        self._blocked += 1
        self._look()
        return asyncio.shield(self._acknowledged)

    def streaming(self, attempt: Attempt, step: Any) -> None:
        """There is nobody to send chunks to: the protocol has no word for them."""

    def values(self, attempt: Attempt) -> dict[str, bytes | None]:
        """The state that is known here; None: known to be absent."""
        return self._state

    def waiting(self, attempt: Attempt) -> None:
        """It may have come to rest."""
        self._look()

    def running(self, attempt: Attempt) -> None:
        """Something arrived."""

    def failed(self, attempt: Attempt, failure: Failed) -> None:
        """Tell the server, which tries again by its policy."""
        error = failure.error
        frame = m.Error(
            code=error.code, message=error.message, stacktrace=error.stacktrace,
            next_retry_delay_ms=failure.delay_ms, behavior="pause" if failure.pause else "retry",
        )  # fmt: skip
        self._write(encode(frame, self.version))

    def ended(self, attempt: Attempt) -> None:
        """The handler's task is gone."""
        attempt.telling = None
        if not self._over:
            self._over = True
            self._finished()

    # -- leaving

    def _look(self) -> None:
        """Is it at rest, with nothing that could arrive? Asked a few turns later."""
        if not self._input_open and not self._checking and not self._over:
            self._checking = True
            self.loop.call_soon(self._look_again, _TURNS_OF_REST)

    def _look_again(self, turns: int) -> None:
        if turns:
            self.loop.call_soon(self._look_again, turns - 1)
            return
        self._checking = False
        attempt = self._attempt
        if attempt is None or attempt.closed or attempt.failing is not None:
            return
        if attempt.executing != self._blocked:
            return  # a step runs; its end brings us back here
        if self._blocked or attempt.idle():
            self._suspend(attempt)

    def _suspend(self, attempt: Attempt) -> None:
        attempt.flush()
        awaiting = attempt.awaiting()
        results = tuple(self._proposed)
        if results:
            nested = (*awaiting.nested, j.Awaiting(completions=results))
            awaiting = j.Awaiting(signals=awaiting.signals, nested=nested)
        self._write(encode(m.Suspension(awaiting), self.version))
        attempt.close()


def _without_ours(word: j.Completion, keys: j.Keys) -> j.Completion:
    """What is beside the user's state is not shown among it."""
    names = tuple(name for name in keys.names if name != KEPT_ENDS)
    return word if names == keys.names else replace(word, outcome=j.Keys(names))
