"""What a suspended invocation waits for: flat sets and trees of combinators."""

import tracemalloc

import pytest
from msgspec import json
from msgspec.structs import replace

from agentdur.core.awaiting import NESTING_MAX, Resolution, combine, depth, resolved
from agentdur.core.journal import Awaiting, Combinator
from tests.core.builders import bits, running

P, S, F, U = Resolution.PENDING, Resolution.SUCCESS, Resolution.FAILURE, Resolution.UNDETERMINED

ANY = Combinator.FIRST_COMPLETED
ALL = Combinator.ALL_COMPLETED
FIRST_GOOD = Combinator.FIRST_SUCCEEDED_OR_ALL_FAILED
ALL_GOOD = Combinator.ALL_SUCCEEDED_OR_FIRST_FAILED
UNKNOWN = Combinator.UNKNOWN

TABLE = [
    (UNKNOWN, [P, P], P),
    (UNKNOWN, [P, S], U),
    (UNKNOWN, [F, P], U),
    (ANY, [P, P], P),
    (ANY, [P, S], S),
    (ANY, [F, P], F),
    (ANY, [U, P], U),
    (ANY, [S, S], S),
    (ANY, [F, S], U),
    (ALL, [P, S], P),
    (ALL, [S, S], S),
    (ALL, [F, F], S),
    (ALL, [U, S], S),
    (FIRST_GOOD, [P, P], P),
    (FIRST_GOOD, [P, F], P),
    (FIRST_GOOD, [P, S], S),
    (FIRST_GOOD, [F, S], S),
    (FIRST_GOOD, [F, F], F),
    (FIRST_GOOD, [P, U], U),
    (FIRST_GOOD, [S, U], U),
    (ALL_GOOD, [P, P], P),
    (ALL_GOOD, [P, S], P),
    (ALL_GOOD, [P, F], F),
    (ALL_GOOD, [S, F], F),
    (ALL_GOOD, [S, S], S),
    (ALL_GOOD, [P, U], U),
    (ALL_GOOD, [F, U], U),
]


@pytest.mark.parametrize(("combinator", "children", "expected"), TABLE)
def test_a_combinator_keeps_its_row_of_the_table(combinator, children, expected):
    assert combine(combinator, children) is expected


def with_outcomes(*, good: tuple[int, ...] = (), bad: tuple[int, ...] = ()):
    return replace(running(length=9), done=bits(*good, *bad), failed=bits(*bad))


def test_a_flat_set_holds_when_any_of_it_is_there():
    flat = Awaiting(completions=(3, 5), signals=(1, "go"))
    assert not resolved(with_outcomes(good=(4,)), flat, 9)
    assert resolved(with_outcomes(good=(5,)), flat, 9)
    assert resolved(with_outcomes(bad=(3,)), flat, 9)
    assert resolved(replace(running(length=9), signals=((1, 8),)), flat, 8)
    assert resolved(replace(running(length=9), signals=(("go", 8),)), flat, 8)


def test_nothing_is_awaited_in_an_empty_set():
    assert not resolved(with_outcomes(good=(1,)), Awaiting(), 0)


def test_a_signal_the_attempt_had_seen_is_spent():
    """Named signals queue: the next await takes the next one, so what was stored before does not count."""
    inv = replace(running(length=9), signals=(("go", 5),))
    assert not resolved(inv, Awaiting(signals=("go",)), 6)
    assert resolved(inv, Awaiting(signals=("go",)), 5)


def test_a_signal_index_is_not_a_name():
    inv = replace(running(length=9), signals=((17, 8),))
    assert not resolved(inv, Awaiting(signals=("17",)), 0)
    assert resolved(inv, Awaiting(signals=(17,)), 0)


def test_one_rejected_awakeable_fails_all_that_must_succeed():
    both = Awaiting(signals=(17, 18), combinator=ALL_GOOD)
    assert not resolved(replace(running(length=9), signals=((17, 8),)), both, 8)
    assert resolved(replace(running(length=9), rejected=((17, 8),)), both, 8)


def test_one_rejected_awakeable_leaves_the_hope_for_another():
    either = Awaiting(signals=(17, 18), combinator=FIRST_GOOD)
    assert not resolved(replace(running(length=9), rejected=((17, 8),)), either, 8)
    assert resolved(replace(running(length=9), rejected=((17, 7), (18, 8))), either, 7)
    assert resolved(replace(running(length=9), signals=((17, 8),)), either, 8)


def test_a_rejection_the_attempt_had_seen_is_spent():
    inv = replace(running(length=9), signals=(("go", 8),), rejected=(("go", 5),))
    assert not resolved(inv, Awaiting((4,), ("go",), combinator=ALL_GOOD), 6)


def test_a_name_both_resolved_and_rejected_is_for_the_handler_to_judge():
    inv = replace(running(length=9), signals=(("go", 7),), rejected=(("go", 8),))
    assert resolved(inv, Awaiting((4,), ("go",), combinator=ALL_GOOD), 7)
    assert resolved(inv, Awaiting((4,), ("go",), combinator=FIRST_GOOD), 7)


def test_a_tree_holds_when_its_root_does():
    """Both of a race, and the race of two approvals, with cancellation beside them."""
    race = Awaiting(completions=(3, 4), combinator=ANY)
    both = Awaiting(completions=(2,), nested=(race,), combinator=ALL_GOOD)
    root = Awaiting(signals=(1,), nested=(both,), combinator=ANY)
    assert not resolved(with_outcomes(), root, 9)
    assert not resolved(with_outcomes(good=(2,)), root, 9)
    assert not resolved(with_outcomes(good=(3,)), root, 9)
    assert resolved(with_outcomes(good=(2, 3)), root, 9)
    assert resolved(with_outcomes(bad=(4,)), root, 9)
    assert resolved(replace(with_outcomes(), signals=((1, 9),)), root, 9)


def test_a_race_whose_order_is_unknown_wakes_the_handler():
    """Both runners came in before the suspension: if the loser of them failed, only the handler knows."""
    race = Awaiting(completions=(3, 4), combinator=ANY)
    root = Awaiting(completions=(2,), nested=(race,), combinator=ALL_GOOD)
    assert resolved(with_outcomes(good=(3,), bad=(4,)), root, 9)
    assert not resolved(with_outcomes(good=(3, 4)), root, 9)


def test_an_unknown_combinator_inside_a_decisive_one_wakes_the_handler():
    mapped = Awaiting(completions=(3,), combinator=UNKNOWN)
    for decisive in (ALL_GOOD, FIRST_GOOD):
        root = Awaiting(completions=(2,), nested=(mapped,), combinator=decisive)
        assert not resolved(with_outcomes(), root, 9)
        assert resolved(with_outcomes(good=(3,)), root, 9)
    everything = Awaiting(completions=(2,), nested=(mapped,), combinator=ALL)
    assert not resolved(with_outcomes(good=(3,)), everything, 9)
    assert resolved(with_outcomes(good=(2, 3)), everything, 9)


def chain(levels: int) -> Awaiting:
    tree = Awaiting(completions=(3,))
    for _ in range(levels - 1):
        tree = Awaiting(nested=(tree,))
    return tree


def test_depth_counts_levels():
    assert depth(Awaiting()) == 1
    assert depth(chain(7)) == 7
    assert depth(Awaiting(nested=(chain(2), chain(5), chain(3)))) == 6


def test_a_tree_of_any_depth_is_measured_and_judged():
    """Whoever sends a tree too deep is told so; nobody runs out of stack over it."""
    tree = chain(20_000)
    assert depth(tree) == 20_000
    assert not resolved(with_outcomes(), tree, 9)
    assert resolved(with_outcomes(good=(3,)), tree, 9)


def test_the_deepest_allowed_tree_can_be_written_and_read_back():
    text = json.encode(chain(NESTING_MAX))
    assert depth(json.decode(text, type=Awaiting)) == NESTING_MAX


def test_an_id_nobody_has_heard_of_stays_pending_and_costs_nothing():
    """Ids come from the other side, up to 2**32 - 1; a bit set that long would take half a gigabyte."""
    tracemalloc.start()
    try:
        assert not resolved(with_outcomes(good=(1,)), Awaiting(completions=(2**32 - 1,)), 9)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
