"""A server of streams that is killed again and again: processes forked one after another on one listening
socket and one database, ready at once because imports are done before.

    python -m tests.http.stream_world DATABASE LISTENING_FD

A line on stdin starts a process, its pid is the answer; `dead` follows when it has ended.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from typing import Any

import uvicorn

from agentdur import App, Context, Service
from agentdur.config import Settings
from agentdur.ingress.app import create_ingress
from agentdur.ingress.protocol import OneWrite
from agentdur.sdk.stream import stream

tales = Service("Tales")


async def draft(label: str, words: int) -> str:
    """What it says is another text in each process, as a model's is."""
    said = ""
    for n in range(words):
        word = f"{label}{n}@{os.getpid()} "
        stream({"type": "text", "delta": word})
        said += word
        await asyncio.sleep(0.004)
    return said


def blocking(label: str) -> str:
    words = [f"{label}{n}@{os.getpid()} " for n in range(3)]
    for word in words:
        stream(word)
        time.sleep(0.003)
    return "".join(words)


@tales.handler()
async def tell(ctx: Context) -> dict[str, str]:
    """Answers what each of its steps said, by the step's name."""
    ctx.stream({"type": "status", "text": "begins"})
    said = {"draft": await ctx.run("draft", draft, "d", 3)}
    left, right, thread = await asyncio.gather(
        ctx.run("left", draft, "l", 3), ctx.run("right", draft, "r", 2), ctx.run("thread", blocking, "t")
    )
    ctx.stream({"type": "status", "text": "ends"})
    return {**said, "left": left, "right": right, "thread": thread}


@tales.handler()
async def wait(ctx: Context) -> str:
    """Says that it waits, and waits."""
    ctx.stream("waiting")
    return str(await ctx.signal("go", type_hint=str))


@tales.handler()
async def go(ctx: Context, invocation: str) -> None:
    """Lets one that waits go on."""
    ctx.resolve_signal(invocation, "go", "went")


app = App([tales])


async def live(database: str, listening: socket.socket) -> None:
    async with app.running(f"sqlite:///{database}", settings=Settings()) as engine:
        config = uvicorn.Config(
            create_ingress(engine), http=OneWrite, lifespan="off", log_config=None, access_log=False
        )
        await uvicorn.Server(config).serve(sockets=[listening])


def main() -> None:
    database, listening = sys.argv[1], socket.socket(fileno=int(sys.argv[2]))
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            asyncio.run(live(database, listening))
            os._exit(0)
        print(pid, flush=True)
        os.waitpid(pid, 0)
        print("dead", flush=True)


def texts_of(chunks: list[Any]) -> str:
    """The text of chunks."""
    return "".join(chunk if isinstance(chunk, str) else chunk["delta"] for chunk in chunks)


if __name__ == "__main__":
    main()
