"""The model the documents' agents ask."""

from tests.agents.conftest import llm

__all__ = ["llm"]
