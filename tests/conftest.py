"""What holds for every test: no price list, no trace leaves the machine, haste where it is asked for."""

import os

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("OPENAI_AGENTS_DISABLE_TRACING", "1")

# How long an example takes says how busy the machine is.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("hasty", settings.get_profile("patient"), max_examples=10)


def pytest_configure(config: pytest.Config) -> None:
    """Where the slow tests are left out, a tenth of the examples does."""
    settings.load_profile("hasty" if config.getoption("markexpr") == "not slow" else "patient")
