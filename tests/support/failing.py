"""A store that can be told to fail, around one that does not."""

from __future__ import annotations

import threading
from typing import Any

from agentdur.core.errors import StoreError
from agentdur.core.ports import Store


class FailingStore:
    """Everything is the inner store's affair, but for the methods that are told to raise."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self.errors: dict[str, list[BaseException | None]] = {}
        self.gate: threading.Event | None = None
        self.at_gate = threading.Event()

    def fail(self, method: str, error: BaseException, times: int = 1, after: int = 0) -> None:
        """The next `times` calls of `method` raise this, when `after` have passed."""
        self.errors[method] = [*[error] * times, *[None] * after]

    def commit(self, prepared: Any) -> None:
        """Commit, when the gate is open."""
        if self.gate is not None:
            self.at_gate.set()
            self.gate.wait(10)
        self._check("commit")
        self._inner.commit(prepared)

    def _check(self, method: str) -> None:
        left = self.errors.get(method)
        error = left.pop() if left else None
        if error is not None:
            raise error

    def __getattr__(self, method: str) -> Any:
        inner = getattr(self._inner, method)

        def checked(*args: Any) -> Any:
            self._check(method)
            return inner(*args)

        return checked


class Broken(StoreError):
    """The store is broken, says the test."""

    code = "AD9999"
