"""agentdur through its own ingress, beside the limit behind a bare door and, where it is installed, Restate.

    python -m benchmarks.ingress [--seconds 0.8] [--reps 3] [--sides agentdur,limit,restate]

Server and load generator are processes of their own. No-op, three steps, counters of 100 keys (checked: no
add is lost), and a parent with 100 children. Restate takes part when RESTATE_SERVER names its server's
binary, or the npm package @restatedev/restate-server is installed below this directory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks import servers, work
from benchmarks.measure import CLIENTS, Run, Table, cpu_of

SERVERS = {
    "agentdur": servers.Agentdur, "limit": servers.Limit, "restate": servers.Restate,
    "unmeasured": servers.Unmeasured, "traced": servers.Traced,
}  # fmt: skip
SIDES = ["agentdur", "limit", "restate"]
_PER_RUN = 1 << 20  # running numbers of one run


@dataclass(frozen=True)
class Workload:
    """What one request is, and with how many clients it is made."""

    name: str
    path: str
    body: str
    clients: tuple[int, ...] = CLIENTS
    bare: bool = False
    """The limit has it, too."""


WORKLOADS = (
    Workload("noop", "/Bench/noop", '{"n":{i}}', bare=True),
    Workload("steps3", "/Bench/steps3", '{"n":{i}}', bare=True),
    Workload("add", "/Counter/{k}/add", "1", clients=(16,)),
    Workload("fanout", "/Bench/fanout", '{"n":{i}}', clients=(1, 16)),
)


class Side:
    """A server, and the load on it."""

    def __init__(self, name: str, directory: str) -> None:
        self.name = name
        os.makedirs(directory)
        self.server = SERVERS[name](directory)
        self._start = 0
        self._added = 0
        self.calls = 0

    def run(self, workload: Workload, clients: int, seconds: float) -> Run:
        """One timed run; the processor time is the server's."""
        self._start += _PER_RUN
        command = [
            sys.executable, "-m", "benchmarks.load", "--port", str(self.server.port), "--path", workload.path,
            "--body", workload.body, "--clients", str(clients), "--seconds", str(seconds),
            "--keys", str(work.KEYS), "--start", str(self._start),
        ]  # fmt: skip
        before = cpu_of(self.server.pids)
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60 + 4 * seconds)
        cpu = cpu_of(self.server.pids) - before
        answer = json.loads(found.stdout)
        run = Run(**{**answer["run"], "cpu": cpu})
        if run.errors:
            raise SystemExit(f"{self.name}, {workload.name}: {run.errors} errors: {answer['first_error']}")
        self.calls += run.calls
        if workload.name == "add":
            self._added += run.calls
        return run

    def check(self) -> str:
        """Every add that was answered is counted."""
        counted = sum(self._count(key) for key in range(work.KEYS))
        verdict = "the sum is right" if counted == self._added else "THE SUM IS WRONG"
        return f"{self.name}: {self._added} adds answered, {counted} counted: {verdict}"

    def _count(self, key: int) -> int:
        url = f"http://127.0.0.1:{self.server.port}/Counter/{key}/count"
        with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=30) as answer:
            return int(json.load(answer)["count"])


def compare(directory: str, options: argparse.Namespace) -> list[str]:
    """All workloads on all sides in turn; the lines to print."""
    table = Table(options.sides)
    with ExitStack() as stack:
        sides = [Side(name, os.path.join(directory, name)) for name in options.sides]
        for side in sides:
            stack.callback(side.server.stop)
            for workload in WORKLOADS:
                if workload.bare or side.name != "limit":
                    side.run(workload, 16, min(0.3, options.seconds))
        for repetition in range(options.reps):
            for workload in WORKLOADS:
                for clients in workload.clients:
                    for side in sides if repetition % 2 == 0 else sides[::-1]:
                        if workload.bare or side.name != "limit":
                            run = side.run(workload, clients, options.seconds)
                            table.add(workload.name, clients, side.name, run)
        return [*table.lines(), *(side.check() for side in sides if side.name != "limit")]


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=0.8)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--sides", type=lambda text: text.split(","), default=SIDES)
    parser.add_argument("--dir", default=None, help="where the databases are written; a temporary directory")
    options = parser.parse_args()
    if "restate" in options.sides and not servers.find_restate():
        options.sides.remove("restate")
        print("restate left out: no RESTATE_SERVER and no node_modules/@restatedev/restate-server")
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        lines = compare(directory, options)
    print(f"through HTTP on loopback; medians of {options.reps} runs of {options.seconds} s, taking turns")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
