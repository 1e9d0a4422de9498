"""When does what a suspended invocation waits for hold? Evaluates flat sets (V5, V6) and trees (V7)."""

from __future__ import annotations

from enum import Enum

from agentdur.core.journal import Awaiting, Combinator
from agentdur.core.state import Invocation

NESTING_MAX = 1000


class Resolution(Enum):
    """UNDETERMINED: complete, but nobody can tell whether as a success."""

    PENDING = 0
    SUCCESS = 1
    FAILURE = 2
    UNDETERMINED = 3


def resolved(inv: Invocation, awaiting: Awaiting, seen: int) -> bool:
    """True when the invocation should run. A signal counts when it was stored at or after entry `seen`."""
    return _evaluate(inv, awaiting, seen) is not Resolution.PENDING


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
        bit = 1 << completion
        if not inv.done & bit:
            out.append(Resolution.PENDING)
        else:
            out.append(Resolution.FAILURE if inv.failed & bit else Resolution.SUCCESS)
    for signal in awaiting.signals:
        stored = any(name == signal and index >= seen for name, index in inv.signals)
        out.append(Resolution.SUCCESS if stored else Resolution.PENDING)
    return out


def _evaluate(inv: Invocation, awaiting: Awaiting, seen: int) -> Resolution:
    children = _leaves(inv, awaiting, seen) + [_evaluate(inv, child, seen) for child in awaiting.nested]
    return combine(awaiting.combinator, children)


def combine(combinator: Combinator, children: list[Resolution]) -> Resolution:
    """The table of the service protocol, §7.5."""
    ready: list[Resolution] = [child for child in children if child is not Resolution.PENDING]
    match combinator:
        case Combinator.UNKNOWN:
            return Resolution.UNDETERMINED if ready else Resolution.PENDING
        case Combinator.FIRST_COMPLETED:
            return ready[0] if ready else Resolution.PENDING
        case Combinator.ALL_COMPLETED:
            return Resolution.SUCCESS if len(ready) == len(children) else Resolution.PENDING
        case Combinator.FIRST_SUCCEEDED_OR_ALL_FAILED:
            return _decisive(children, ready, Resolution.SUCCESS, Resolution.FAILURE)
        case Combinator.ALL_SUCCEEDED_OR_FIRST_FAILED:
            return _decisive(children, ready, Resolution.FAILURE, Resolution.SUCCESS)


def _decisive(
    children: list[Resolution], ready: list[Resolution], one: Resolution, all_of: Resolution
) -> Resolution:
    if Resolution.UNDETERMINED in ready:
        return Resolution.UNDETERMINED
    if one in ready:
        return one
    return all_of if len(ready) == len(children) else Resolution.PENDING
