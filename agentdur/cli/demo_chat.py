"""`agentdur demo chat`: a session in the terminal. What is said is streamed, questions are answered in place.

Rules of this file:
1. It is a client like any other: it posts messages, reads the turn, and decides approvals.
2. With a model of yours (AGENTDUR_DEMO_MODEL, or OPENAI_API_KEY) that one is asked; else a scripted one,
   which runs beside it; the first line says which.
3. What was under way when it was killed goes on when it is started again on the same store.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from agentdur.agent import Agent
from agentdur.sdk.approval import ApprovalRecord
from agentdur.sdk.client import EngineClient
from agentdur.sdk.exceptions import TerminalError
from agentdur.server import App
from agentdur.sessions import About, Chat, Page, Post, Posted, Reply, chat
from agentdur.sessions.narration import Item, narrate
from agentdur.testing.scripted_llm import Script, ScriptedLLM, ToolCall, Turn, When
from agentdur.tools import tool

HELP = "/regenerate gives another answer, /history shows what was said, /quit leaves; Ctrl-C stops an answer."
SCRIPTED = "openai/scripted"
PROMPT = "you> "


@tool
async def order(number: int) -> dict[str, Any]:
    """What is known of an order."""
    return {"order": number, "status": "left the warehouse", "euros": 25.0}


@tool(approval=True)
async def refund(number: int, euros: float) -> str:
    """Pay an order back. A person has to agree."""
    return f"{euros:.2f} euros for order {number} are on their way"


def support(model: str, **settings: Any) -> Agent:
    """The agent of the demo."""
    return Agent(
        name="support", model=model, tools=[order, refund], settings=settings,
        instructions="You help the customers of a shop. Be brief.",
    )  # fmt: skip


def script() -> Script:
    """What the scripted model says."""
    pay, look = When(last_user="refund"), When(last_user="order")
    seven = {"number": 7}
    return Script(
        turns=(
            Turn(text="I will have it refunded. ", when=pay, chunk_delay_ms=20,
                 tool_calls=(ToolCall(name="refund", arguments={**seven, "euros": 25.0}),)),
            Turn(text="That is settled.", when=pay, chunk_delay_ms=20),
            Turn(text="Let me look. ", when=look, chunk_delay_ms=20,
                 tool_calls=(ToolCall(name="order", arguments=seven),)),
            Turn(text="Order 7 has left the warehouse.", when=look, chunk_delay_ms=20),
            Turn(text="I am a scripted stand-in: ask me about an order, or for a refund.", chunk_delay_ms=20),
        ),
        count="since_last_user", after_last="repeat",
    )  # fmt: skip


@asynccontextmanager
async def demo_agent() -> AsyncIterator[Agent]:
    """The agent with the model that is there."""
    named = os.environ.get("AGENTDUR_DEMO_MODEL", "")
    if named in ("", "scripted") and not (named == "" and os.environ.get("OPENAI_API_KEY")):
        async with ScriptedLLM(script()) as llm:
            yield support(SCRIPTED, api_base=llm.base_url, api_key="none")
    else:
        yield support(named or "openai/gpt-4.1-mini")


class Lines:
    """The lines that a person types, without a thread: the terminal hands them over whole."""

    def __init__(self) -> None:
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._rest = b""
        self._fd = sys.stdin.fileno()
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def _read(self) -> None:
        data = os.read(self._fd, 65536)
        if not data:
            asyncio.get_running_loop().remove_reader(self._fd)
            self._lines.put_nowait(None)
            return
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            self._lines.put_nowait(line.decode("utf-8", "replace").strip())

    async def line(self) -> str | None:
        """The next one; None at the end."""
        return await self._lines.get()

    def end(self) -> None:
        """No more lines: who waits for one is told so."""
        self._lines.put_nowait(None)


class Terminal:
    """One session, and the person at it."""

    def __init__(self, client: EngineClient, talk: Chat, key: str) -> None:
        self.client, self.talk, self.key = client, talk, key
        self.console = Console(highlight=False)
        self.lines = Lines()
        self.busy = False
        self._stopping: asyncio.Future[Any] | None = None
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._interrupted)

    def _interrupted(self) -> None:
        if self.busy:
            self._stopping = asyncio.ensure_future(self.client.object_call(self.talk.stop, self.key))
        else:
            self.lines.end()

    async def run(self) -> None:
        """Until the person leaves."""
        about: About | None = await self.client.object_call(self.talk.about, self.key)
        if about is not None and about.running is not None:
            self.console.print("An answer was under way; it goes on.", style="dim")
            await self.answer(Posted(id=about.running.id, invocation=about.running.invocation))
        elif about is not None:
            self.console.print(f"{about.messages} messages are remembered.", style="dim")
        while (line := await self._asked(PROMPT)) not in (None, "/quit"):
            if line:
                await self.hear(str(line))
        self.console.print()

    async def hear(self, line: str) -> None:
        """A message, or a command."""
        if line == "/history":
            history = await self.client.object_call(self.talk.history, self.key, Page())
            for one in history.messages:
                self.console.print(Text(f"{one.role}: {one.message.get('content') or '…'}", style="dim"))
        elif line == "/regenerate":
            posted = await self.client.object_call(self.talk.regenerate, self.key, Post())
            await self.answer(posted)
        elif line.startswith("/"):
            self.console.print(HELP, style="dim")
        else:
            await self.answer(await self.client.object_call(self.talk.post, self.key, line))

    async def answer(self, posted: Posted) -> None:
        """Tell a turn as it goes."""
        self.busy = True
        try:
            async for item in narrate(self.client, posted):
                await self.tell(item)
        finally:
            self.busy = False

    async def tell(self, item: Item) -> None:
        """One thing that is said or done."""
        out = self.console
        match item.kind:
            case "text":
                out.print(Text(item.data["delta"]), end="")
            case "reasoning":
                out.print(Text(item.data["delta"], style="dim italic"), end="")
            case "tool_result":
                out.print(Text(f"\n  {item.data['name']}: {item.data['content']}", style="dim"))
            case "approval":
                await self.ask(item.data)
            case "agent":
                out.print(Text(f"\n  {item.data['name']} goes on", style="dim"))
            case "void":
                out.print(Text("\n  (that call failed; it is made again)", style="dim"))
            case "end":
                self.end(item.data)

    def end(self, outcome: Reply | TerminalError) -> None:
        """How the turn ended."""
        if isinstance(outcome, TerminalError):
            self.console.print(Text(f"\n  {outcome.message}", style="red"))
            return
        how = "" if outcome.status == "completed" else f", {outcome.status}"
        tokens = outcome.usage.total_tokens
        self.console.print(Text(f"\n  {outcome.model_calls} model calls, {tokens} tokens{how}", style="dim"))

    async def ask(self, chunk: dict[str, Any]) -> None:
        """Somebody has to agree: here, and now."""
        record = await self.client.approval(chunk["id"])
        if record.status != "pending":
            return
        what = msgspec.json.encode(record.payload).decode()
        self.console.print(Text(f"\n  {record.question} {what}", style="yellow"))
        said = await self._asked("  approve? [y]es, [n]o, [e]dit> ")
        if said is None:
            raise EOFError
        if said[:1].lower() == "y":
            await self.client.approve(record.id, record.digest, by="terminal")
        elif said[:1].lower() == "e":
            await self.edit(record)
        else:
            reason = await self._asked("  why not?> ") or ""
            await self.client.reject(record.id, record.digest, by="terminal", reason=reason)

    async def edit(self, record: ApprovalRecord) -> None:
        """Something else instead (of a tool, other arguments), until it is JSON."""
        of_tool = isinstance(record.payload, dict) and "arguments" in record.payload
        what = "the arguments" if of_tool else "all of it"
        while (text := await self._asked(f"  {what} as JSON> ")) is not None:
            try:
                payload = msgspec.json.decode(text)
            except msgspec.DecodeError as wrong:
                self.console.print(Text(f"  {wrong}", style="red"))
                continue
            if of_tool:
                payload = {**record.payload, "arguments": payload}
            await self.client.approve(record.id, record.digest, by="terminal", payload=payload)
            return
        raise EOFError

    async def _asked(self, prompt: str) -> str | None:
        self.console.print(Text(prompt, style="bold"), end="")
        sys.stdout.flush()
        return await self.lines.line()


async def main(store: str, key: str) -> None:
    """The session, over an engine of its own."""
    async with demo_agent() as agent:
        talk = chat(agent)
        console = Console(highlight=False)
        what = "a scripted model" if agent.model == SCRIPTED else agent.model
        console.print(f"A chat with {what}, remembered in {store}", style="bold")
        console.print(HELP, style="dim")
        async with App([talk]).running(store) as engine:
            try:
                await Terminal(engine.client(), talk, key).run()
            except EOFError:
                console.print()


def start(store: str, key: str) -> None:
    """The whole life of the process."""
    asyncio.run(main(store, key))
