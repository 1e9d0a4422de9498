"""What is so now, asked of the engine when somebody looks.

Rules of this file:
1. What takes the store some work is asked for at most every KEEP_SECONDS.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import msgspec

from agentdur.core.book import ACCOUNTS, BOOK, Unit, read
from agentdur.core.ports import Store
from agentdur.telemetry.follow import APPROVALS
from agentdur.telemetry.metrics import Gauge, Labels

KEEP_SECONDS: Final = 10.0
BUDGETS_MAX: Final = 500
"""Shared budgets that are shown; by key."""
APPROVALS_MAX: Final = 10_000
_UNITS: Final[tuple[Unit, ...]] = ("calls", "tokens", "cost")


class Figures(Protocol):
    """An engine, as far as it is measured."""

    store: Store

    def figures(self) -> dict[str, int]:
        """Attempts in memory (`live`, of which `waiting`; `elsewhere`), and those that wait for room
        (`ready`)."""


class _Question(msgspec.Struct):
    service: str


def engine_gauges(engine: Figures) -> Callable[[], Iterable[Gauge]]:
    """For `Registry.gauges`; on the engine's loop."""
    kept: list[Any] = [float("-inf"), []]

    def stored() -> list[Gauge]:
        if time.monotonic() - kept[0] > KEEP_SECONDS:
            kept[:] = [
                time.monotonic(),
                [_statuses(engine.store), _approvals(engine.store), *_budgets(engine.store)],
            ]
        metrics: list[Gauge] = kept[1]
        return metrics

    def gauges() -> Iterable[Gauge]:
        attempts: dict[Labels, float] = {(where,): count for where, count in engine.figures().items()}
        yield Gauge(
            "agentdur_attempts_in_memory",
            "Attempts in this process (live), those of them that only wait (waiting), those of deployments "
            "(elsewhere), and those that wait for room (ready).",
            attempts, ("state",),
        )  # fmt: skip
        yield from stored()

    return gauges


def _statuses(store: Store) -> Gauge:
    text = "Stored invocations by status: scheduled, pending (inbox), running, suspended (parked), …"
    return Gauge("agentdur_invocations", text, {(s,): n for s, n in store.count().items()}, ("status",))


def _approvals(store: Store) -> Gauge:
    counts: dict[Labels, float] = {}
    for _, value in store.states(APPROVALS, "pending", "", APPROVALS_MAX):
        question = _read(value, _Question)
        if question is not None:
            counts[(question.service,)] = counts.get((question.service,), 0) + 1
    return Gauge("agentdur_approvals_pending", "Questions that nobody has decided.", counts, ("service",))


def _budgets(store: Store) -> list[Gauge]:
    spent: dict[Labels, float] = {}
    limits: dict[Labels, float] = {}
    for key, value in store.states(ACCOUNTS, BOOK, "", BUDGETS_MAX):
        book = read(value)
        if book is None:
            continue
        for unit in _UNITS:
            limit = book.limit(unit)
            spent[(key, unit)] = float(getattr(book.spent, unit))
            if limit is not None:
                limits[(key, unit)] = float(limit)
    return [
        Gauge("agentdur_budget_spent", "Of shared budgets: what was spent.", spent, ("budget", "unit")),
        Gauge("agentdur_budget_limit", "Of shared budgets: what may be spent.", limits, ("budget", "unit")),
    ]


def _read(value: bytes, kind: type[Any]) -> Any:
    """None when it is of another version."""
    try:
        return msgspec.json.decode(value, type=kind)
    except msgspec.MsgspecError:
        return None
