"""The demo: an agent is killed in the middle of its work, and finishes it. `make demo`, or
`python -m examples.agents.demo`.

With a provider's key in the environment it asks the real model (AGENTDUR_DEMO_MODEL says which one), else one
that plays a script; AGENTDUR_DEMO_MODEL=scripted insists on the script. Everything else is always real: the
server is `agentdur serve` on a SQLite file, and it dies of SIGKILL.
"""

import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
from rich.console import Console

from agentdur.testing.scripted_llm import LedgerEntry, ScriptedLLMProcess, scripted_llm_process
from examples.agents import demo_world as world
from examples.agents.demo_report import Story, show, steps_of
from examples.agents.demo_world import DemoFailed, Server

ANSWER_TIMEOUT_S = 120
TOOL_TIMEOUT_S = 60
NOT_READY = 470
"""What the server answers while an invocation has no result."""
PAUSE_BEFORE_KILL_S = 0.3
"""So that what has just finished is on the disk, and the page is still on its way."""


def main() -> int:
    """Tell it as it happens; 1 when anything is not as it must be."""
    console = Console(width=80, highlight=False)
    model = world.real_model()
    world.compile_once()
    console.print("\n[bold]An agent is killed in the middle of its work.[/] Does it finish it?\n")
    try:
        with tempfile.TemporaryDirectory(prefix="agentdur-demo-") as folder, ExitStack() as stack:
            story = play(console, Path(folder), model, stack)
        story.steps = steps_of(story)
        fine = show(console, story)
    except DemoFailed as failed:
        console.print(f"[bold red]✘[/] {failed}", highlight=False)
        return 1
    end = "[bold green]It does.[/]" if fine else "[bold red]Not as it must be.[/]"
    console.print(f"\n{end} The agent: examples/agents/research.py, a loop in plain asyncio.\n")
    return 0 if fine else 1


def play(console: Console, folder: Path, model: str, stack: ExitStack) -> Story:
    """Start, ask, kill, start again, and collect what the witnesses say."""
    ledger = folder / "tools.jsonl"
    seconds = dict.fromkeys(world.PAGES, world.REAL_MODEL_SECONDS) if model else world.SECONDS
    pages = stack.enter_context(world.pages_served(seconds))
    (port,) = world.free_ports(1)
    base_url = "" if model else f"http://127.0.0.1:{port}/v1"
    server = Server(folder, world.environment_for(model or "openai/scripted", base_url, ledger))
    stack.callback(server.stop)
    say(console, f"model    {model or 'a scripted one, in a process of its own: no key, no network'}")
    server.start()  # it takes a while to import LiteLLM; meanwhile the model starts
    say(console, f"server   agentdur serve research.py --store agent.db   (process {server.pid})")
    scripted = None if model else stack.enter_context(scripted_llm_process(world.script(pages), port=port))
    server.wait_ready()

    question = world.question(pages)
    asked_ms, invocation = ask(server, question)
    say(console, f"asked    {question.partition('?')[0]}?")
    wait_for_tools(server, ledger, invocation, finished=0 if model else 3)
    time.sleep(PAUSE_BEFORE_KILL_S)
    killed_ms, first = now_ms(), server.pid
    server.kill()
    say(console, f"killed   kill -9 {first}, while a tool was at work")
    before = world.read_journal(server.store, invocation, folder / "at-the-kill")

    server.start()
    say(console, f"started  the same command again   (process {server.pid})")
    server.wait_ready()
    ready_ms = now_ms()
    answer = attach(server, invocation)
    answered_ms = now_ms()
    server.stop()
    after = world.read_journal(server.store, invocation, folder / "at-the-end")
    return Story(
        before, after, world.read_lines(ledger), asked_of(scripted), (first, server.pid), asked_ms, killed_ms,
        ready_ms, answered_ms, answer,
    )  # fmt: skip


def ask(server: Server, question: str) -> tuple[int, str]:
    """Send the question; whoever sends it again under the same key gets the same invocation."""
    headers = {"idempotency-key": "demo", "content-type": "application/json"}
    asked_ms = now_ms()
    sent = http("POST", f"{server.url}/Research/run/send", json.dumps({"text": question}), headers)
    return asked_ms, str(sent.json()["invocationId"])


def attach(server: Server, invocation: str) -> str:
    """Wait for the answer."""
    return str(http("GET", f"{server.url}/restate/invocation/{invocation}/attach").json()["answer"])


def http(method: str, url: str, body: str = "", headers: dict[str, str] | None = None) -> httpx.Response:
    """One request to the server; DemoFailed unless it is answered well."""
    try:
        with httpx.Client(trust_env=False, timeout=ANSWER_TIMEOUT_S) as client:
            reply = client.request(method, url, content=body, headers=headers)
    except httpx.TransportError as error:
        raise DemoFailed(f"{method} {url}: {error!r}") from error
    if not reply.is_success:
        raise DemoFailed(f"{method} {url}: {reply.status_code} {reply.text}")
    return reply


def wait_for_tools(server: Server, ledger: Path, invocation: str, finished: int) -> None:
    """Until so many tools have finished and another one is running."""
    deadline = time.monotonic() + TOOL_TIMEOUT_S
    while time.monotonic() < deadline:
        events = [line["event"] for line in world.read_lines(ledger)]
        ended = events.count("end")
        if ended >= finished and events.count("begin") > ended:
            return
        if is_over(server, invocation):
            raise DemoFailed(f"the model answered without a tool at work: {attach(server, invocation)}")
        time.sleep(0.02)
    raise DemoFailed(f"no tool was at work within {TOOL_TIMEOUT_S} s\n{server.last_words()}")


def is_over(server: Server, invocation: str) -> bool:
    """True when there is an answer, or a failure."""
    path = f"{server.url}/restate/invocation/{invocation}/output"
    with httpx.Client(trust_env=False, timeout=ANSWER_TIMEOUT_S) as client:
        return client.get(path).status_code != NOT_READY


def asked_of(scripted: ScriptedLLMProcess | None) -> tuple[LedgerEntry, ...] | None:
    """The ledger of the scripted model; nobody shows us a provider's."""
    return None if scripted is None else scripted.ledger()


def say(console: Console, line: str) -> None:
    """One line, at once."""
    console.print(f"  [dim]{line[:9]}[/]{line[9:]}", highlight=False)


def now_ms() -> int:
    """Since the epoch, as the journal counts."""
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    sys.exit(main())
