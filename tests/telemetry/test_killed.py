"""The whole of it: `agentdur serve` in processes that are killed, a collector, and what Prometheus reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from agentdur.core.trace import span_of
from tests.cli.test_serving import Ports, free_ports
from tests.support.collector import Collector, attributes, names, told_twice

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PATIENCE_SECONDS = 40.0
SHOP = """
import asyncio, logging
from pathlib import Path
from agentdur import App, Context, Service

log = logging.getLogger("shop")
shop = Service("Shop")

@shop.handler()
async def sell(ctx: Context, article: str) -> str:
    log.info("selling")
    await ctx.run("charge", lambda: log.info("charging"))
    Path("begun").touch()
    await ctx.service_call(ship, article)
    log.info("sold")
    return article

@shop.handler()
async def ship(ctx: Context, article: str) -> None:
    async def load() -> None:
        Path("loading").touch()
        while not Path("go").exists():
            await asyncio.sleep(0.01)
    await ctx.run("load", load)

app = App([shop])
"""


def until(ready: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := ready()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found


class Life:
    """One process. Its log is JSON."""

    def __init__(self, folder: Path, collector: Collector, ports: Ports, name: str) -> None:
        self.log = folder / f"{name}.log"
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("AGENTDUR_", "OTEL_"))}
        environ |= {
            "PYTHONPATH": str(ROOT), "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_SERVICE_NAME": "shop",
            "AGENTDUR_LOG_FORMAT": "json", "AGENTDUR_STORE": "sqlite:///shop.db",
        }  # fmt: skip
        command = [sys.executable, "-m", "agentdur.cli", "serve", "shop.py"]
        command += ["--ingress-port", str(ports.ingress), "--admin-port", str(ports.admin)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, env=environ, stderr=log, stdout=subprocess.PIPE
            )
        assert self.process.stdout is not None
        assert b"serves" in self.process.stdout.readline(), self.log.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(PATIENCE_SECONDS) == 0

    @property
    def said(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if line["logger"] == "shop"]


def test_killed_in_the_middle_it_is_one_trace_and_each_line_is_said_once(
    tmp_path: Path, collector: Collector
):
    (tmp_path / "shop.py").write_text(SHOP)
    ports = free_ports()
    first = Life(tmp_path, collector, ports, "first")
    http = httpx.Client(base_url=f"http://127.0.0.1:{ports.ingress}", trust_env=False)
    sent = http.post("/Shop/sell/send", json="lamp", headers={"traceparent": CALLER}).json()["invocationId"]
    until((tmp_path / "loading").exists, "the child loads")
    until(lambda: collector.named("charge"), "the first step's span has left")
    first.kill()
    second = Life(tmp_path, collector, ports, "second")
    try:
        (tmp_path / "go").touch()
        assert http.get(f"/restate/invocation/{sent}/attach", timeout=PATIENCE_SECONDS).json() == "lamp"
        until(lambda: collector.named("Shop/sell"), "the run's span has left")
        text = httpx.get(f"http://127.0.0.1:{ports.admin}/metrics", trust_env=False).text
    finally:
        second.stop()
    (tree,) = collector.trees()
    assert names(tree) == ("Shop/sell", [("call Shop/ship", [("Shop/ship", ["load"])]), "charge"])
    assert told_twice(collector.spans) == {"charge"}, "sent by the first, and by the second for sure"
    assert {span.trace_id.hex() for span in collector.spans} == {CALLER[3:35]}
    root = collector.one("Shop/sell")
    assert (root.parent_span_id.hex(), root.span_id.hex()) == (CALLER[36:52], span_of(sent))
    assert attributes(root)["agentdur.attempts"] == 2
    assert {resource["service.name"] for resource in collector.resources} == {"shop"}
    assert "/v1/traces" not in second.log.read_text(), "sending is not worth a line"
    assert [line["message"] for line in first.said] == ["selling", "charging"]
    assert [line["message"] for line in second.said] == ["sold"]
    assert {(line["invocation"], line["handler"]) for line in (*first.said, *second.said)} == {
        (sent, "Shop/sell")
    }  # fmt: skip
    families = {family.name: family for family in text_string_to_metric_families(text)}
    ended = families["agentdur_invocations_completed"].samples
    assert {sample.labels["handler"]: sample.value for sample in ended} == {"sell": 1, "ship": 1}
    steps = families["agentdur_step_duration_seconds"].samples
    assert [s.value for s in steps if s.name.endswith("_count")] == [1], "what was told again is not counted"
    assert collector.metric("agentdur_invocations_completed").sum.data_points, "they leave at the end"
