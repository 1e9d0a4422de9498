"""`stream(data)`: a chunk for whoever reads this invocation now, or later.

Rules of this file:
1. Inside a step a chunk is live: it goes out at once and costs no commit; the step's result brings what was
   sent into the journal. In the handler itself it is a journal entry, and a replay is silent about it.
2. A chunk is JSON data. It is taken as it is at the call; what is changed afterwards is not seen.
3. A step may stream from its threads and from tasks it made; what comes after its end is dropped.
"""

from __future__ import annotations

import asyncio
from typing import Any

from agentdur.core.errors import NotInHandler
from agentdur.core.text import writable
from agentdur.sdk.attempt import Attempt
from agentdur.sdk.branch import Branch, current_branch
from agentdur.sdk.segment import STREAM
from agentdur.sdk.serde import JsonSerde

_JSON: JsonSerde[Any] = JsonSerde()


def stream(data: Any) -> None:
    """Send a chunk: any JSON value, a pydantic model, a msgspec struct. Returns at once, and never waits.

    Raises NotInHandler outside of a handler, NotSerializable for what is no JSON."""
    branch = current_branch()
    if branch is None:
        raise NotInHandler("stream() outside of a handler")
    if not branch.in_step:
        _journal(branch, data)
        return
    own: Branch | None = branch
    while own is not None and own.in_step and not own.stop_step:
        own = own.parent  # a task the step made: the step's own branch is further up
    step = branch.acting
    if own is None or step is None:
        return  # its step is over
    value = plain(data)
    loop = own.attempt.loop
    if _running_loop() is loop:
        _send(own, step, value)
    else:
        try:
            loop.call_soon_threadsafe(_send, own, step, value)
        except RuntimeError:  # the loop is closed: the thread outlived its process's engine
            return


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _journal(branch: Branch, data: Any) -> None:
    attempt: Attempt = branch.attempt
    if attempt.context is None or _running_loop() is not attempt.loop:
        raise NotInHandler("stream() in a thread or after the end of the handler")
    attempt.context.note_value(STREAM, data)


def _send(branch: Branch, step: Any, value: Any) -> None:
    if branch.acting is not step:
        return  # that one is over
    segment = branch.segment
    if segment is None:
        attempt: Attempt = branch.attempt
        segment = attempt.driver.streaming(attempt, step)
        if segment is None:
            return
        branch.segment = segment
    segment.add(value)


def plain(data: Any) -> Any:
    """The JSON value of `data`, a copy."""
    kind = type(data)
    if kind is str:
        return writable(data)
    if kind is dict:  # what models send: text by name
        copy = {}
        for name, value in data.items():
            if type(value) is not str or type(name) is not str or not name.isascii():
                break
            copy[name] = value if value.isascii() else writable(value)
        else:
            return copy
    return _JSON.deserialize(_JSON.serialize(data))
