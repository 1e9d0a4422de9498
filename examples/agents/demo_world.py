"""What the demo needs around it: web pages, a model, a process to kill, a journal to read.

Nothing here knows more of agentdur than a user does, but for `read_journal`, which looks into the file.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from agentdur.core.ids import InvocationId
from agentdur.runtime.views import entry_view
from agentdur.stores import open_store
from agentdur.testing.scripted_llm import ToolCall, Turn

ROOT = Path(__file__).resolve().parents[2]
AGENT = Path(__file__).with_name("research.py")
START_TIMEOUT_S = 60
MODELS = {
    "OPENAI_API_KEY": "openai/gpt-4.1-mini",
    "ANTHROPIC_API_KEY": "anthropic/claude-haiku-4-5",
    "GEMINI_API_KEY": "gemini/gemini-2.5-flash",
}
PAGES = {
    "bergen": "Bergen, Norway. In a normal year 2495 mm of rain fall, on 239 days.",
    "lisbon": "Lisbon, Portugal. In a normal year 774 mm of rain fall, most of it in winter.",
    "cherrapunji": "Cherrapunji, India. In a normal year 11777 mm of rain fall, most of it in the monsoon.",
}
SECONDS = {"bergen": 0.35, "lisbon": 0.2, "cherrapunji": 1.5}
REAL_MODEL_SECONDS = 1.0
"""How long each page takes when nobody knows beforehand which one the model asks for."""
ANSWER = "Cherrapunji gets 4.7 times the rain of Bergen, and Bergen 3.2 times that of Lisbon."


def question(pages: str) -> str:
    """What the agent is asked."""
    urls = ", ".join(f"{pages}/{name}" for name in PAGES)
    return f"How much wetter is Cherrapunji than Bergen, and Bergen than Lisbon? Read the pages: {urls}"


def script(pages: str) -> list[Turn]:
    """What the scripted model says: two turns of parallel tools, one of a single tool, the answer."""

    def read(name: str) -> ToolCall:
        return ToolCall(name="read_page", arguments={"url": f"{pages}/{name}"})

    def compute(expression: str) -> ToolCall:
        return ToolCall(name="compute", arguments={"expression": expression})

    return [
        Turn(tool_calls=(read("bergen"), read("lisbon")), delay_ms=200),
        Turn(tool_calls=(compute("2495 / 774"), read("cherrapunji")), delay_ms=200),
        Turn(tool_calls=(compute("11777 / 2495"),), delay_ms=200),
        Turn(text=ANSWER, delay_ms=200),
    ]


def real_model() -> str:
    """The model to really ask, by LiteLLM's name; empty when there is no key, or `scripted` is wanted."""
    wanted = os.environ.get("AGENTDUR_DEMO_MODEL", "")
    if wanted:
        return "" if wanted == "scripted" else wanted
    return next((model for key, model in MODELS.items() if os.environ.get(key)), "")


class _Pages(BaseHTTPRequestHandler):
    def __init__(self, seconds: dict[str, float], *args: Any) -> None:
        self.seconds = seconds
        super().__init__(*args)

    def do_GET(self) -> None:
        name = self.path.strip("/")
        time.sleep(self.seconds.get(name, 0))
        text = PAGES.get(name, "no such page").encode()
        try:
            self.send_response(200 if name in PAGES else 404)
            self.send_header("content-type", "text/plain; charset=utf-8")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
        except OSError:
            self.close_connection = True  # whoever asked was killed

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@contextmanager
def pages_served(seconds: dict[str, float]) -> Iterator[str]:
    """The web, on a free port of this machine; each page takes its time."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Pages, seconds))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


@dataclass
class Server:
    """`agentdur serve` with the research agent: started, killed, started again."""

    folder: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.ports = free_ports(2)
        self.url = f"http://127.0.0.1:{self.ports[0]}"
        self.store = self.folder / "agent.db"

    @property
    def pid(self) -> int:
        """Of the process that is, or was last."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """A process; `wait_ready` says when it serves."""
        command = [sys.executable, "-m", "agentdur.cli", "serve", str(AGENT)]
        command += ["--store", f"sqlite:///{self.store}", "--log-level", "warning"]
        command += ["--ingress-port", str(self.ports[0]), "--admin-port", str(self.ports[1])]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=log, stderr=log
            )

    def wait_ready(self) -> None:
        """Until it answers; DemoFailed with its last words when it does not."""
        assert self.process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/restate/health", trust_env=False, timeout=1).is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise DemoFailed(f"the server did not start:\n{self.last_words()}")

    def kill(self) -> None:
        """SIGKILL: no goodbye, no chance to save anything."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM, if it still runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()

    def last_words(self) -> str:
        """The end of its log."""
        return (self.folder / "server.log").read_text(errors="replace")[-2000:]


def environment_for(model: str, base_url: str, ledger: Path) -> dict[str, str]:
    """What the server's process is told; a `base_url` is the scripted model's."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    told = {**os.environ, "PYTHONPATH": path, "RESEARCH_MODEL": model, "RESEARCH_LEDGER": str(ledger)}
    told |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    if base_url:
        told |= {"OPENAI_API_KEY": "scripted", "OPENAI_BASE_URL": base_url, "OPENAI_API_BASE": base_url}
    told["NO_PROXY"] = told["no_proxy"] = ",".join(
        filter(None, ["127.0.0.1", os.environ.get("NO_PROXY", "")])
    )
    return told


def compile_once() -> None:
    """Where Python is told to write no bytecode, each process of the demo would compile all it imports, and
    LiteLLM is large: keep the sources clean, but compile them only once, beside the interpreter."""
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        os.environ["PYTHONPYCACHEPREFIX"] = str(Path(sys.prefix, "demo-pycache"))


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a ledger that may be growing."""
    if not path.exists():
        return []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def read_journal(store: Path, invocation: str, copy: Path) -> list[dict[str, Any]]:
    """What the file says about an invocation, read from a copy: the entries with their times in ms."""
    copy.mkdir()
    for part in store.parent.glob(f"{store.name}*"):
        if not part.name.endswith(".lock"):
            shutil.copy(part, copy)
    opened = open_store(f"sqlite:///{copy / store.name}")
    try:
        row = opened.invocation(InvocationId(invocation))
        if row is None:
            raise DemoFailed(f"{invocation} is not in {store}")
        times = dict(opened.times(row.seq))
        return [
            {"index": index, "ms": times.get(index, 0), **entry_view(entry)}
            for index, entry in opened.journal(row.seq)
        ]
    finally:
        opened.close()
