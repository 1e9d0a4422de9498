"""What holds for every test: no price list, no trace leaves the machine, haste where it is asked for.

Haste is `-m "not slow"`, as `make check` does: a tenth of the made-up examples; what is told of several
stores is told in memory; of what needs a model client, which takes seconds to import, a few stories only.
"""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("OPENAI_AGENTS_DISABLE_TRACING", "1")

# How long an example takes says how busy the machine is.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("hasty", settings.get_profile("patient"), max_examples=10)


ROOT = Path(__file__).parent
NEED_A_CLIENT = {
    "agents", "endpoint", "frameworks", "google_adk", "openai_agents", "released", "sessions",
}  # fmt: skip
A_FEW_STORIES = {"test_agent.py", "test_tools.py", "test_chat.py"}


def in_haste(config: pytest.Config) -> bool:
    return bool(config.getoption("markexpr") == "not slow")


def pytest_configure(config: pytest.Config) -> None:
    """Where the slow tests are left out, a tenth of the examples does."""
    settings.load_profile("hasty" if in_haste(config) else "patient")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Tests with processes of their own mostly wait for them: one worker more than there are cores."""
    return (os.cpu_count() or 1) + (not in_haste(config))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Not even imported, nor what their folder's conftest needs."""
    if not in_haste(config) or ROOT not in collection_path.parents:
        return None
    if collection_path.relative_to(ROOT).parts[0] not in NEED_A_CLIENT:
        return None
    if collection_path.is_dir():
        return None if A_FEW_STORIES & {path.name for path in collection_path.iterdir()} else True
    return None if collection_path.name in A_FEW_STORIES else True


def pytest_collection_finish() -> None:
    """What is there now stays: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def warm_processes_end() -> Iterator[None]:
    """Before anybody counts what was covered."""
    yield
    if warm := sys.modules.get("tests.support.warm"):
        warm.end()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a story that is told of several stores, one telling is quick."""
    for item in items:
        call = getattr(item, "callspec", None)
        if call is not None and call.params.get("stage") == "sqlite":
            item.add_marker(pytest.mark.slow)
