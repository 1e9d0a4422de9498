"""When does what a suspended invocation waits for hold? Evaluates flat sets (V5, V6) and trees (V7).

Rules of this file:
1. What is there is a success or a failure; where the aggregate cannot tell which counts, the handler runs and
   decides: an attempt too many costs little, an invocation that is never woken is lost.
2. Trees come from outside: nothing here recurses or grows with the size of an id.
"""

from __future__ import annotations

from enum import Enum
from typing import assert_never

from agentdur.core.journal import Awaiting, Combinator
from agentdur.core.state import Invocation

NESTING_MAX = 200
"""The reference stops at 1000; this is what JSON encoders hold on Python's default stack, and spare room."""


class Resolution(Enum):
    """UNDETERMINED: complete, but nobody can tell whether as a success."""

    PENDING = 0
    SUCCESS = 1
    FAILURE = 2
    UNDETERMINED = 3


def resolved(inv: Invocation, awaiting: Awaiting, seen: int) -> bool:
    """True when the invocation should run. A signal counts when it was stored at or after entry `seen`."""
    any_of = _any_of(inv, awaiting, seen)
    return _evaluate(inv, awaiting, seen) is not Resolution.PENDING if any_of is None else any_of


def _any_of(inv: Invocation, awaiting: Awaiting, seen: int) -> bool | None:
    """The usual tree, whatever comes first of a few things, at a third of the price; None for any other."""
    for node in (awaiting, *awaiting.nested):
        if node.combinator is not Combinator.FIRST_COMPLETED or (node.nested and node is not awaiting):
            return None
    for node in (awaiting, *awaiting.nested):
        for completion in node.completions:
            if inv.done >> completion & 1:
                return True
        for signal in node.signals:
            if _stored(inv.signals, signal, seen) or _stored(inv.rejected, signal, seen):
                return True
    return False


def depth(awaiting: Awaiting) -> int:
    """How deep the tree is nested, found without recursion: it comes from outside."""
    deepest, todo = 0, [(awaiting, 1)]
    while todo:
        node, level = todo.pop()
        deepest = max(deepest, level)
        todo += [(child, level + 1) for child in node.nested]
    return deepest


def _leaves(inv: Invocation, awaiting: Awaiting, seen: int) -> list[Resolution]:
    out = []
    for completion in awaiting.completions:
        if not inv.done >> completion & 1:
            out.append(Resolution.PENDING)
        else:
            out.append(Resolution.FAILURE if inv.failed >> completion & 1 else Resolution.SUCCESS)
    for signal in awaiting.signals:
        resolved_since = _stored(inv.signals, signal, seen)
        if _stored(inv.rejected, signal, seen):
            out.append(Resolution.UNDETERMINED if resolved_since else Resolution.FAILURE)
        else:
            out.append(Resolution.SUCCESS if resolved_since else Resolution.PENDING)
    return out


def _stored(signals: tuple[tuple[int | str, int], ...], signal: int | str, seen: int) -> bool:
    return any(name == signal and index >= seen for name, index in signals)


def _evaluate(inv: Invocation, awaiting: Awaiting, seen: int) -> Resolution:
    if not awaiting.nested:
        return combine(awaiting.combinator, _leaves(inv, awaiting, seen))
    parents_first, todo = [], [awaiting]
    while todo:
        node = todo.pop()
        parents_first.append(node)
        todo += node.nested
    known: dict[int, Resolution] = {}  # by the node's identity: all of them are alive while this runs
    for node in reversed(parents_first):
        children = _leaves(inv, node, seen) + [known[id(child)] for child in node.nested]
        known[id(node)] = combine(node.combinator, children)
    return known[id(awaiting)]


def combine(combinator: Combinator, children: list[Resolution]) -> Resolution:
    """The table of the service protocol, §7.5."""
    ready: list[Resolution] = [child for child in children if child is not Resolution.PENDING]
    match combinator:
        case Combinator.UNKNOWN:
            return Resolution.UNDETERMINED if ready else Resolution.PENDING
        case Combinator.FIRST_COMPLETED:
            if len(set(ready)) > 1:
                return Resolution.UNDETERMINED  # which of them came first is not known here
            return ready[0] if ready else Resolution.PENDING
        case Combinator.ALL_COMPLETED:
            return Resolution.SUCCESS if len(ready) == len(children) else Resolution.PENDING
        case Combinator.FIRST_SUCCEEDED_OR_ALL_FAILED:
            return _decisive(children, ready, Resolution.SUCCESS, Resolution.FAILURE)
        case Combinator.ALL_SUCCEEDED_OR_FIRST_FAILED:
            return _decisive(children, ready, Resolution.FAILURE, Resolution.SUCCESS)
        case _:
            assert_never(combinator)


def _decisive(
    children: list[Resolution], ready: list[Resolution], one: Resolution, all_of: Resolution
) -> Resolution:
    if Resolution.UNDETERMINED in ready:
        return Resolution.UNDETERMINED
    if one in ready:
        return one
    return all_of if len(ready) == len(children) else Resolution.PENDING
