"""The whole engine in virtual time, with faults from a seed: every invariant holds in every run.

A seed that fails prints how to run it again. Fix the cause, and add the seed to FAILED_ONCE. What a seed does
changes when operations or faults are added to the simulation: then test_planted_bugs.py tells the new seeds.
"""

import os
import subprocess
import sys

import pytest

from agentdur.testing.simulation import Outcome, main, simulate

FAILED_ONCE = {
    0: "after a crash another failure of a gather was heard first",
    1: "a record was forgotten before it was committed; two steps had one idempotency key",
    4: "a commit began while another one ran",
    16: "half of what a message meant was committed when the store could not be read",
    17: "a place in an inbox was given to a second one while the removal of the first was under way",
    34: "a rejected signal was read back as a resolved one",
    60: "what arrived while a journal was read reached neither the journal that was read nor the handler",
    113: "on replay a cancel passed by the tasks it had reached",
}
"""Each of these was wrong in the engine once, and the seed shows it when it comes back."""

FEW = [pytest.param(seed, marks=pytest.mark.slow if seed > 10_002 else ()) for seed in range(10_000, 10_012)]
"""The first three also in `make check`."""


def explained(outcome: Outcome) -> str:
    return "\n".join([outcome.violation, outcome.reproduction(), *outcome.trace])


@pytest.mark.slow
@pytest.mark.parametrize("seed", sorted(FAILED_ONCE))
def test_a_seed_that_failed_once_holds(seed: int):
    outcome = simulate(seed)
    assert not outcome.violation, explained(outcome)


@pytest.mark.parametrize("seed", FEW)
def test_a_few_seeds_hold(seed: int):
    outcome = simulate(seed)
    assert not outcome.violation, explained(outcome)


@pytest.mark.slow
def test_seeds_hold(chunk: range):
    """Every seed of the chunk is run; the first that fails is explained."""
    crashes = invocations = 0
    for seed in chunk:
        outcome = simulate(seed)
        assert not outcome.violation, explained(outcome)
        crashes += outcome.crashes
        invocations += outcome.invocations
    assert crashes > len(chunk) / 2, "the seeds hardly disturb anything"
    assert invocations > 5 * len(chunk), "the clients hardly ask for anything"


@pytest.mark.slow
def test_the_same_seed_is_the_same_run():
    """Event by event: also where strings are hashed differently, as in every new process."""
    script = "from agentdur.testing.simulation import simulate; print([simulate(s).digest for s in range(6)])"
    heard = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, "-c", script]
        heard.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(heard) == 1
    assert heard == {str([simulate(seed).digest for seed in range(6)]) + "\n"}


@pytest.mark.slow
def test_different_seeds_are_different_runs():
    assert len({simulate(seed).digest for seed in range(8)}) == 8


@pytest.mark.slow
def test_the_command_line_tells_the_outcome(capsys: pytest.CaptureFixture[str]):
    assert main(["--seeds", "3", "--start", "40"]) == 0
    assert capsys.readouterr().out.startswith("3 seeds, 0 failed, ")
    assert main(["--seed", "40", "--verbose"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("life 1  start")
    assert lines[-1].endswith(" ok")
