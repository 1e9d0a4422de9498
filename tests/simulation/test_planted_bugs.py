"""The simulation is worth what it finds: each planted bug is found within a few seeds."""

import pytest

from agentdur.testing.simulation import simulate
from tests.simulation.planted import BUGS, Plant

pytestmark = pytest.mark.slow

SEEDS_MAX = 400
FAST = 5
"""So many of them are also part of the fast run."""


def found_by(bug: Plant, patch: pytest.MonkeyPatch) -> tuple[int, str]:
    bug(patch)
    for seed in range(SEEDS_MAX):
        outcome = simulate(seed)
        if outcome.violation:
            return seed, outcome.violation
    return SEEDS_MAX, ""


@pytest.mark.parametrize("bug", BUGS[:FAST], ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found(bug: Plant, monkeypatch: pytest.MonkeyPatch):
    assert found_by(bug, monkeypatch)[1], f"{SEEDS_MAX} seeds did not notice: {bug.__doc__}"


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS[FAST:], ids=lambda bug: bug.__name__)
def test_another_planted_bug_is_found(bug: Plant, monkeypatch: pytest.MonkeyPatch):
    assert found_by(bug, monkeypatch)[1], f"{SEEDS_MAX} seeds did not notice: {bug.__doc__}"


def test_without_a_planted_bug_the_same_seeds_hold():
    """Otherwise the others would prove nothing."""
    assert len(BUGS) >= 12
    assert [simulate(seed).violation for seed in range(20)] == [""] * 20
