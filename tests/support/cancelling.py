"""Cancelling an invocation, and what its callers see."""

from __future__ import annotations

import asyncio

import pytest

from agentdur import TerminalError
from agentdur.core.ids import InvocationId
from agentdur.sdk.client import ClientSendHandle
from tests.support.stage import Stage, until


async def cancel(stage: Stage, sent: ClientSendHandle) -> bool:
    return await stage.engine.operate("cancel", InvocationId(sent.invocation_id))


async def ended_cancelled(stage: Stage, sent: ClientSendHandle) -> None:
    with pytest.raises(TerminalError, match="cancelled") as caught:
        await asyncio.wait_for(stage.client.attach(sent.invocation_id), 5)
    assert caught.value.status_code == 409


async def waiting(stage: Stage, sent: ClientSendHandle, entries: int) -> None:
    """Its journal has that many entries and it waits."""
    await until(lambda: len(stage.journal(sent.invocation_id)) >= entries)
