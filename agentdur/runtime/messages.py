"""Conversations beside the journal: which messages are stored already, and which are used.

Rules of this file:
1. A message is written when it is not known to be stored; what is known is forgotten with the memory of an
   engine, and then written once more: the same bytes under the same hash.
2. The end of a conversation is touched when it is used again, though not more often than TOUCH_MS.
3. What was used a moment ago is not swept, whatever the store says.
"""

from __future__ import annotations

from agentdur.core.journal import ChatMessage
from agentdur.core.ports import Writes

KNOWN_MAX = 100_000
"""Messages that are known to be stored."""
TOUCH_MS = 60_000
"""How exact `used_at` is."""


class Messages:
    """What an engine knows of stored messages. By hash: [written at, used at], ms since the epoch, oldest use
    first."""

    def __init__(self) -> None:
        self._known: dict[str, list[int]] = {}

    def keep(self, messages: tuple[ChatMessage, ...], writes: Writes, now: int) -> None:
        """A step refers to conversations: add to the commit what is not stored."""
        known = self._known
        last = len(messages) - 1
        for number, message in enumerate(messages):
            times = known.pop(message.hash, None)
            is_end = number == last or messages[number + 1].parent != message.hash
            if times is None or (is_end and now - times[0] >= TOUCH_MS):
                times = [now, now]
                writes.messages[message.hash] = (message.parent, message.value, now)
            times[1] = now
            known[message.hash] = times
        while len(known) > KNOWN_MAX:
            del known[next(iter(known))]

    def drop(self, unused: list[str], writes: Writes, before: int) -> int:
        """Those of the unused that nobody has used since leave the store with the commit; how many."""
        dropped = 0
        for name in unused:
            times = self._known.get(name)
            if name in writes.messages or (times is not None and times[1] >= before):
                continue
            self._known.pop(name, None)
            writes.message_drops.add(name)
            dropped += 1
        return dropped
