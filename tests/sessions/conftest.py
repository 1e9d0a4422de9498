"""The stage on which sessions play, and the model their agents ask."""

from tests.agents.conftest import llm
from tests.support.fixtures import stage

__all__ = ["llm", "stage"]
