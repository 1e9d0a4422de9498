"""Does a task that awaits something of asyncio wait for its fellows, or for the world?

Rules of this file:
1. A task that waits for tasks, queues, locks and events of its own process rests: when all that work for it
   wait for the journal, the whole attempt can leave memory.
2. One that sleeps, reads a socket or waits for a thread does something that a journal entry would not bring
   back: it is left alone. So is one that awaits a future nobody can tell the meaning of.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Collection
from pathlib import Path
from types import AsyncGeneratorType, CodeType
from typing import Any

_ASYNCIO = str(Path(asyncio.__file__).parent)
_INSIDE = tuple(str(Path(_ASYNCIO) / name) for name in ("taskgroups.py", "tasks.py", "queues.py", "locks.py"))
_STEPS = ("async_generator_asend", "async_generator_athrow", "anext_awaitable")
_SHIELD = "shield.<locals>._outer_done_callback"
_ANYIO_LOOP = str(Path("anyio") / "_backends" / "_asyncio.py")
_OF_THE_WORLD = ("SocketStream", "UNIX", "TCP", "UDP", "Process", "Stream", "ConnectedU", "wait_")


def rests(task: asyncio.Task[Any], fellows: Collection[asyncio.Task[Any]]) -> bool:
    """True when it waits for a fellow task, or for something that only its own process brings about."""
    awaited = getattr(task, "_fut_waiter", None)
    if awaited is None:
        return False  # it is about to run
    if isinstance(awaited, asyncio.Task):
        return awaited in fellows
    children = getattr(awaited, "_children", None)
    if children is not None:  # gather
        return any(child in fellows for child in children)
    shielded = _shielded(awaited)
    if shielded is not None:
        return shielded in fellows
    frames = awaiting_frames(task.get_coro())
    if not frames or not frames[-1].co_filename.startswith(_INSIDE):
        return False
    return frames[-1].co_name != "sleep" and not any(_of_the_world(code) for code in frames)


def _shielded(awaited: Any) -> Any:
    """The task behind `asyncio.shield`, None when there is none: its callback on what is awaited knows it."""
    for callback, _ in getattr(awaited, "_callbacks", None) or ():
        code = getattr(callback, "__code__", None)
        if code is not None and code.co_qualname == _SHIELD and "inner" in code.co_freevars:
            return callback.__closure__[code.co_freevars.index("inner")].cell_contents
    return None


def _of_the_world(code: CodeType) -> bool:
    return code.co_filename.endswith(_ANYIO_LOOP) and code.co_qualname.startswith(_OF_THE_WORLD)


def awaiting_frames(coroutine: Any) -> list[CodeType]:
    """The code of a suspended coroutine and of those it awaits, innermost last."""
    found: list[CodeType] = []
    while coroutine is not None:
        if isinstance(coroutine, AsyncGeneratorType):
            found.append(coroutine.ag_code)
            coroutine = coroutine.ag_await
            continue
        code = getattr(coroutine, "cr_code", None) or getattr(coroutine, "gi_code", None)
        if code is not None:
            found.append(code)
        deeper = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
        coroutine = _generator_of(coroutine) if deeper is None else deeper
    return found


def _generator_of(awaitable: Any) -> Any:
    """The async generator whose next value is awaited; None for what is no such step. A step does not say so
    itself: only the garbage collector knows."""
    if type(awaitable).__name__ not in _STEPS:
        return None
    there = gc.get_referents(awaitable)
    return next((x for x in there if isinstance(x, AsyncGeneratorType) or type(x).__name__ in _STEPS), None)


def current_task() -> asyncio.Task[Any] | None:
    """The task that runs, if one does: also asked where there is no loop."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
