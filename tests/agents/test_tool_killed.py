"""A real process, a real SIGKILL, between a tool's effect and the commit of its answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.endpoint.cluster import cluster, until
from tests.support import warm

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("mode", ["in process", "http2"])
def test_killed_after_its_effect_a_tool_is_not_run_again(mode: str, tmp_path: Path):
    """Also where the journal is on a Restate server: the intent is there before the effect, and the process
    that comes after asks what became of it."""
    ledger = tmp_path / "ledger"
    bank = "tests/agents/served_bank.py"
    with cluster(tmp_path, mode, bank, imported=warm.MODELS, BANK_LEDGER=str(ledger)) as c:
        running = c.send("/Bank/run")
        until(ledger.exists, "the effect")
        c.kill()
        answer = c.result(running)
        assert (answer.status_code, answer.json()) == (200, "found")
    assert len(ledger.read_text().splitlines()) == 1
