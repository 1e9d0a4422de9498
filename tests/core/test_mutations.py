"""Every guard of the core is proved: without it, a story turns red.

Rules of this file:
1. A red run counts only when stories were told and one of them was not true: a copy that cannot be imported
   proves nothing.
2. The untouched copy is green, so that what the mutants show is theirs alone.
"""

from pathlib import Path

import pytest

from tests.core import mutants_journal, mutants_life
from tests.core.mutation import CORE, Mutation, break_rule, copy_core, run_stories

MUTATIONS = [
    mutation
    for module in (mutants_life, mutants_journal)
    for group in vars(module).values()
    if isinstance(group, tuple)
    for mutation in group
]
TESTS_FAILED = 1


def by_name(mutation: Mutation) -> str:
    return mutation.name


def test_every_mutation_still_has_its_text():
    """A rule that was rewritten needs its mutation rewritten."""
    gone = [each.name for each in MUTATIONS if (CORE / each.file).read_text().count(each.old) != 1]
    assert gone == []


def test_there_are_mutations_of_every_file_that_decides():
    deciding = {f"machine/{path.name}" for path in (CORE / "machine").glob("*.py")} - {"machine/__init__.py"}
    assert deciding | {"awaiting.py", "retry.py", "fifo.py"} == {each.file for each in MUTATIONS}
    assert len({each.name for each in MUTATIONS}) == len(MUTATIONS)


@pytest.mark.slow
def test_the_untouched_copy_is_green(tmp_path: Path):
    copy_core(tmp_path)
    told = run_stories(tmp_path, sorted({each.tests for each in MUTATIONS}))
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=by_name)
def test_a_broken_rule_turns_a_story_red(mutation: Mutation, tmp_path: Path):
    break_rule(copy_core(tmp_path), mutation)
    told = run_stories(tmp_path, [mutation.tests])
    assert told.returncode == TESTS_FAILED, told.stdout + told.stderr
    assert "1 failed" in told.stdout, told.stdout
