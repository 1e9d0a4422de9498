"""What a model client says in the log of a server."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow
PROGRAM = """
import logging, agentdur.llm
from agentdur.observe.logs import configure_logging
configure_logging("{level}", "json")
logging.getLogger("LiteLLM").info("a call begins")
logging.getLogger("LiteLLM").warning("a key is missing")
"""


@pytest.mark.parametrize(
    ("level", "heard"),
    [("info", ["a key is missing"]), ("debug", ["a call begins", "a key is missing"])],
)
def test_its_lines_come_once_and_as_json(level: str, heard: list[str]):
    """The client brings a handler of its own."""
    pytest.importorskip("litellm")
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM.format(level=level)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    lines = [json.loads(line) for line in told.splitlines()]
    assert [line["message"] for line in lines if line["logger"] == "LiteLLM"] == heard
