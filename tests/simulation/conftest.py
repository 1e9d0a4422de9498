"""How many seeds: AGENTDUR_SIMULATION_SEEDS in the environment, or `--simulation-seeds N` when this folder is
named to pytest."""

import os
import sys
from collections.abc import Iterator

import pytest

SEEDS = 1_000
"""In the whole suite; a chunk of them is a test, so that workers share them."""
CHUNK = 50


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--simulation-seeds", type=int, default=_wanted(), help="seeds of the simulation to run")


def _wanted() -> int:
    return int(os.environ.get("AGENTDUR_SIMULATION_SEEDS", SEEDS))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "chunk" in metafunc.fixturenames:
        seeds = metafunc.config.getoption("--simulation-seeds", _wanted())
        starts = range(0, seeds, CHUNK)
        chunks = [range(start, min(start + CHUNK, seeds)) for start in starts]
        metafunc.parametrize("chunk", chunks, ids=[f"{c.start}-{c.stop - 1}" for c in chunks])


@pytest.fixture(autouse=True)
def not_measured() -> Iterator[None]:
    """A thousand seeds tell nothing new about coverage, and cost thrice as much with it."""
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)
