"""Brings up one process after another over one database, ready at once: imports are done before the fork.

    python -m tests.crash.nursery DATABASE LISTENING_FD

A line on stdin starts a process, its pid is the answer; `dead STATUS` follows when it has ended. A process
serves requests, one JSON line each, on the socket it inherits: connections made while none is up wait.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from typing import Any

from agentdur.core.ids import InvocationId
from agentdur.core.journal import Failure
from agentdur.core.ports import Answer, Engine, Filter
from agentdur.sdk.client import EngineClient
from tests.crash.agents import Process, app


def told(answer: Answer) -> Any:
    if isinstance(answer.result, Failure):
        return {"failure": answer.result.message}
    return {"value": json.loads(answer.result.value)}


async def served(engine: Engine, asked: dict[str, Any]) -> Any:
    client = EngineClient(engine)
    match asked["do"]:
        case "send":
            sent = await client.generic_send(
                asked["service"], asked["handler"], json.dumps(asked.get("value")).encode(), asked.get("key"),
                idempotency_key=asked["id"],
            )  # fmt: skip
            return sent.invocation_id
        case "call":
            body = json.dumps(asked["value"]).encode() if "value" in asked else b""
            return json.loads(
                await client.generic_call(
                    asked["service"], asked["handler"], body, asked.get("key"), asked.get("id")
                )
            )
        case "output":
            known = await engine.output(InvocationId(asked["invocation"]))
            return None if known is None else told(known)
        case "resolve":
            await client.resolve_awakeable(asked["awakeable"], asked["value"])
            return True
        case "unfinished":
            rows = await engine.list(Filter(limit=100_000))
            return [row for row in rows if row["status"] != "completed"]
        case "failed":
            rows = await engine.list(Filter(limit=100_000))
            return [row for row in rows if "last_failure" in row]
    raise LookupError(asked["do"])


async def live(database: str, listening: socket.socket) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with app.running(f"sqlite:///{database}") as engine:

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked = json.loads(await reader.readline())
            writer.write(json.dumps(await served(engine, asked)).encode() + b"\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(talk, sock=listening):
            await stop.wait()


def main() -> None:
    database, listening = sys.argv[1], socket.socket(fileno=int(sys.argv[2]))
    for _ in sys.stdin:
        Process.number += 1
        pid = os.fork()
        if pid == 0:
            asyncio.run(live(database, listening))
            os._exit(0)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print("dead", status, flush=True)


if __name__ == "__main__":
    main()
