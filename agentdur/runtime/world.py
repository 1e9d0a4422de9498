"""The engine's only sources of time and chance, so that a simulation can own both."""

from __future__ import annotations

import os
import random
import time
from typing import Protocol

_BUFFER = 4096


class World(Protocol):
    """Time in ms since the epoch, and randomness."""

    def now(self) -> int:
        """The wall clock."""

    def chance(self) -> float:
        """A number in [0, 1)."""

    def bytes(self, size: int) -> bytes:
        """Bytes nobody can guess."""


class RealWorld:
    """The machine's clock and the operating system's randomness, fetched in blocks."""

    __slots__ = ("_block", "_offset")

    def __init__(self) -> None:
        self._block = b""
        self._offset = 0

    def now(self) -> int:
        """The wall clock."""
        return int(time.time() * 1000)

    def chance(self) -> float:
        """A number in [0, 1)."""
        return random.random()

    def bytes(self, size: int) -> bytes:
        """Bytes nobody can guess."""
        start = self._offset
        end = start + size
        if end > len(self._block):
            self._block, start, end = os.urandom(_BUFFER), 0, size
        self._offset = end
        return self._block[start:end]
