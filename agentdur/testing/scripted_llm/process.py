"""The server as a process of its own, for tests that kill processes and for demos."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from agentdur.testing.scripted_llm.ledger import LedgerEntry, read_ledger
from agentdur.testing.scripted_llm.script import (
    AddedFaults,
    Control,
    Fault,
    ScriptError,
    ScriptSource,
    load_faults,
    load_script,
)

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 10
REPLY_TIMEOUT_S = 30

_PACKAGE_ROOT = Path(__file__).resolve().parents[3]


class ScriptedLLMProcess:
    """A running server process. Its methods speak to it over HTTP, as any other process could."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, ledger: Path | None) -> None:
        self._process, self._ledger_path = process, ledger
        self.url = url

    @property
    def base_url(self) -> str:
        """What OpenAI clients want to be told: the url with /v1."""
        return f"{self.url}/v1"

    @property
    def pid(self) -> int:
        return self._process.pid

    def ledger(self) -> tuple[LedgerEntry, ...]:
        """All entries so far; after the end of the process, those of the file."""
        if self._process.poll() is not None and self._ledger_path is not None:
            return read_ledger(self._ledger_path)
        return msgspec.convert(self._call("/ledger")["entries"], tuple[LedgerEntry, ...])

    def replace(self, script: ScriptSource) -> None:
        """Play another script from the next request on."""
        self._call("/control", Control(script=load_script(script)))

    def add_faults(self, *faults: Fault, turn: int | None = None) -> None:
        """Let these faults strike from the next request on: at one turn, or at every request."""
        self._call("/control", Control(add_faults=(load_faults(AddedFaults(faults=faults, turn=turn)),)))

    def kill(self) -> None:
        """SIGKILL: no goodbye to anybody. Returns when the process is gone."""
        self._process.kill()
        self._process.wait(STOP_TIMEOUT_S)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that is not enough."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def _call(self, path: str, body: Control | None = None) -> Any:
        data = msgspec.json.encode(body) if body is not None else None
        request = urllib.request.Request(
            self.url + path, data=data, headers={"content-type": "application/json"}
        )
        try:
            with _NO_PROXY.open(request, timeout=REPLY_TIMEOUT_S) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as refused:
            raise ScriptError(json.load(refused)["error"]["message"]) from refused


@contextlib.contextmanager
def scripted_llm_process(
    script: ScriptSource, *, port: int = 0, ledger: str | os.PathLike[str] | None = None
) -> Iterator[ScriptedLLMProcess]:
    """Spawn the server, wait until it is ready, and end it on the way out.

    The process also ends when this one dies, even by SIGKILL. Refuses a bad script with a ScriptError, and
    raises RuntimeError with the process's own words when it does not start.
    """
    checked = load_script(script)
    ledger_path = Path(ledger).absolute() if ledger is not None else None
    with tempfile.TemporaryDirectory(prefix="scripted-llm-") as folder, contextlib.ExitStack() as stack:
        script_path = Path(folder, "script.json")
        script_path.write_bytes(msgspec.json.encode(checked))
        errors = stack.enter_context(Path(folder, "stderr").open("w+b"))
        command = [sys.executable, "-m", "agentdur.testing.scripted_llm", "--exit-with-stdin"]
        command += ["--port", str(port), "--script", str(script_path)]
        command += ["--ledger", str(ledger_path)] if ledger_path is not None else []
        process = stack.enter_context(
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=_environment()
            )
        )
        try:
            handle = ScriptedLLMProcess(process, _ready_url(process, errors), ledger_path)
            yield handle
        except BaseException:
            process.kill()
            raise
        handle.stop()


_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _environment() -> dict[str, str]:
    """The child must find the same package, installed or not."""
    inherited = os.environ.get("PYTHONPATH", "")
    search = [str(_PACKAGE_ROOT), inherited] if inherited else [str(_PACKAGE_ROOT)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(search)}


def _ready_url(process: subprocess.Popen[bytes], errors: IO[bytes]) -> str:
    """The url of the one line a server prints when it is ready."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        line = process.stdout.readline() if selector.select(START_TIMEOUT_S) else b""
    if not line:
        errors.seek(0)
        reason = errors.read().decode(errors="replace").strip()
        raise RuntimeError(
            f"the scripted LLM did not start: {reason or f'nothing said in {START_TIMEOUT_S} s'}"
        )
    url = json.loads(line)["url"]
    assert isinstance(url, str)
    return url
