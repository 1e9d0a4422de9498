"""`python -m agentdur.testing.scripted_llm --port 0 --script FILE --ledger FILE`.

Prints one line of JSON with its url when it is ready, and serves until SIGINT or SIGTERM. A script that
cannot be played ends it with status 2 and the reason on stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path

from agentdur.testing.scripted_llm.script import Script, ScriptError, load_script
from agentdur.testing.scripted_llm.server import ScriptedLLM


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m agentdur.testing.scripted_llm", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--script", type=Path, required=True, help="JSON file: a script, or a list of turns")
    parser.add_argument("--ledger", type=Path, help="JSONL file to append to (default: only in memory)")
    parser.add_argument("--exit-with-stdin", action="store_true", help="end when stdin is closed")
    options = parser.parse_args(arguments)
    try:
        script = load_script(options.script.read_bytes())
    except (ScriptError, OSError) as refused:
        print(f"{options.script}: {refused}", file=sys.stderr)
        return 2
    asyncio.run(_serve(script, options))
    return 0


async def _serve(script: Script, options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl+C ends asyncio.run by itself
            loop.add_signal_handler(number, stop.set)
    if options.exit_with_stdin:
        loop.add_reader(sys.stdin.fileno(), _stop_at_end_of_stdin, stop)
    async with ScriptedLLM(script, port=options.port, ledger=options.ledger) as llm:
        ready = {"url": llm.url, "base_url": llm.base_url, "pid": os.getpid()}
        print(json.dumps(ready), flush=True)
        await stop.wait()


def _stop_at_end_of_stdin(stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        stop.set()


if __name__ == "__main__":
    sys.exit(main())
