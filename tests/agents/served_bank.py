"""An agent's hands, served by a process that is killed: money that must be sent once."""

import asyncio
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from agentdur import App, Context, InvocationRetryPolicy, Service
from agentdur.llm import ToolCall
from agentdur.tools import NOT_DONE, ToolKey, run_tools, tool

LEDGER = Path(os.environ.get("BANK_LEDGER", "ledger"))
SOON = InvocationRetryPolicy(initial_interval=timedelta(milliseconds=200), max_interval=timedelta(seconds=1))
service = Service("Bank", invocation_retry_policy=SOON)


def found(key: str) -> Any:
    lines = LEDGER.read_text().splitlines() if LEDGER.exists() else []
    return "found" if f"sent {key}" in lines else NOT_DONE


def send(key: str) -> None:
    with LEDGER.open("a") as ledger:
        ledger.write(f"sent {key}\n")


@tool(idempotent=False, reconcile=found)
async def transfer(key: ToolKey) -> str:
    """Send money; the answer never comes."""
    send(key)
    await asyncio.sleep(3600)
    return "never"


@service.handler()
async def run(ctx: Context) -> str:
    (message,) = await run_tools(ctx, [ToolCall(id="call_1", name="transfer")], [transfer])
    return str(message["content"])


app = App([service])
