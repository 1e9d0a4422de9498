"""Held against the model when everything has ended: results, counters, order, and what was promised."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import msgspec

from agentdur.core import journal as j
from agentdur.core.ids import InvocationId
from agentdur.core.ports import Row
from agentdur.core.target import ObjectAddress
from agentdur.testing.actors import Client, Wish
from agentdur.testing.invariants import Checks, Violation
from agentdur.testing.workloads import KEYS, fits_program

_DECODE = msgspec.json.decode


def plain(result: j.Result | None) -> Any:
    """A result as programs see it."""
    if isinstance(result, j.Success):
        return _DECODE(result.value)
    return None if result is None else f"T:{result.code}"


def check_outcomes(checks: Checks, clients: list[Client]) -> None:
    """Raise Violation when the end is not what it has to be."""
    rows = checks.rows()
    by_id = {row.spec.id: row for row in rows}
    for row in rows:
        _fits(checks, row)
    for client in clients:
        for wish in client.all:
            if wish.acknowledged:
                _kept(checks, wish, by_id)
    for key in KEYS:
        _counter(checks, rows, key)
        _log(checks, rows, key)


def _fits(checks: Checks, row: Row) -> None:
    """A calm program's result is the model's."""
    if row.spec.target.service == "Calm":
        program = _DECODE(_input(checks, row))
        result = plain(row.head.result)
        if not fits_program(program, result):
            raise Violation(f"{row.spec.id} ended with {result}, its program is {program}")


def _input(checks: Checks, row: Row) -> bytes:
    first = checks.journals[row.seq][0]
    assert isinstance(first, j.Input)
    return first.value


def _kept(checks: Checks, wish: Wish, by_id: dict[InvocationId, Row]) -> None:
    """What was accepted has ended, with the result that was told."""
    assert wish.invocation is not None
    row = by_id.get(wish.invocation)
    if wish.service.startswith("Rough") and (row is None or wish.invocation in checks.gone):
        return  # an operator purged it, or ended it before it began
    if row is None or row.head.result is None:
        raise Violation(f"{wish.invocation} was accepted and is lost")
    if wish.outcome is not None and wish.outcome != row.head.result:
        raise Violation(f"{wish.invocation} answered {wish.outcome}, and ended with {row.head.result}")


def _counter(checks: Checks, rows: list[Row], key: str) -> None:
    """Each `add` that ended well counts once, and was given a number of its own."""
    numbers = [
        plain(row.head.result)
        for row in rows
        if row.spec.target.service == "CalmCounter" and row.spec.target.key == key
        and row.spec.target.handler == "add"
    ]  # fmt: skip
    stored = checks.store.values(ObjectAddress("CalmCounter", key)).get("count", b"0")
    if sorted(numbers) != list(range(1, _DECODE(stored) + 1)):
        raise Violation(f"counter {key} is {stored!r} after the answers {sorted(numbers)}")


def _log(checks: Checks, rows: list[Row], key: str) -> None:
    """What one invocation sent to one key arrived once, in order."""
    items = _DECODE(checks.store.values(ObjectAddress("CalmLog", key)).get("items", b"[]"))
    if len(items) != len({tuple(item) for item in items}):
        raise Violation(f"log {key} has items twice: {Counter(map(tuple, items)).most_common(3)}")
    sent = sum(1 for row in rows if row.spec.target.service == "CalmLog" and row.spec.target.key == key)
    if sent != len(items):
        raise Violation(f"log {key} has {len(items)} items, {sent} were sent")
    orders: dict[tuple[str, str], list[int]] = defaultdict(list)
    for invocation, path, number in items:
        orders[(invocation, path)].append(number)
    for sender, order in orders.items():
        if order != sorted(order):
            raise Violation(f"log {key}: {sender} sent in order, arrived as {order}")
