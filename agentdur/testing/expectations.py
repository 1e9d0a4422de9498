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
from agentdur.testing.workloads import EXHAUSTED, KEYS, TERMINAL

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


# -- the model: what could a world without faults answer?


def fits_program(program: dict[str, Any], result: Any) -> bool:
    """Whether an invocation of `program` may end so; a failure is given as `T:code`."""
    if program.get("fail"):
        return bool(result == f"T:{program['fail']}")
    return fits_ops(program["ops"], result)


def fits_ops(ops: list[Any], results: Any) -> bool:
    """Whether these operations may give these results."""
    if not isinstance(results, list) or len(ops) != len(results):
        return False
    return all(fits(op, result) for op, result in zip(ops, results, strict=True))


def fits(op: list[Any], result: Any) -> bool:
    """Whether one operation may give this result."""
    match op:
        case ["step", "terminal", _]:
            return bool(result == f"T:{TERMINAL}")
        case ["step", "exhaust" | "expire", _]:
            return bool(result == f"T:{EXHAUSTED}")
        case ["step", _, value] | ["quarrel", value]:
            return bool(result == value)
        case ["gather" | "group", *branches]:
            parts = result if isinstance(result, list) else []
            return len(branches) == len(parts) and all(map(fits_ops, branches, parts))
        case ["race", one, other]:
            return fits_ops(one, result) or fits_ops(other, result)
        case ["call" | "attach", program, *_] | ["idem", _, program]:
            return fits_program(program, result)
        case ["add" | "read", *_]:
            return isinstance(result, int)
        case ["waits"]:
            return isinstance(result, list)
        case ["select", value, _]:
            return result in (["answer", value], ["late", None])
        case ["awakeable", how, value, timeout]:
            return _fits_awakeable(how, value, timeout, result)
        case _:
            return bool(result == _exact(op))


def _fits_awakeable(how: str, value: Any, timeout: int, result: Any) -> bool:
    special: dict[str, list[Any]] = {
        "differing": [["answer", value], ["answer", -value]], "rejected": ["T:500"], "never": [],
    }  # fmt: skip
    allowed = special.get(how, [["answer", value]])
    return result in ([*allowed, ["late", None]] if timeout else allowed)


def _exact(op: list[Any]) -> Any:
    """The only result an operation can have."""
    match op:
        case ["time"]:
            return True
        case ["futures", *values]:
            return values
        case ["late", *values]:
            return values[::-1]
        case ["shared", value]:
            return [value, value]
        case ["ticks", value]:
            return [value, 8]
        case ["signal", value]:
            return [[value, 1], [value, 2]]
        case ["saga", code]:
            return f"undone:{code}" if code else "done"
        case ["flow", _, value]:
            return [[value, value], "open no more", 409]
        case ["crowd", code, _]:
            return f"T:{code}"
        case _:
            return None
