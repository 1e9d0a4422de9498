"""One session with an MCP server, shared by all steps of a loop.

Rules of this file:
1. A session lives in a task of its own, outside of every handler: its cancel scopes are not ours to break.
2. Whatever is wrong with a session ends it. Nothing is tried again here: the step is, with another session.
"""

from __future__ import annotations

import asyncio
from contextvars import Context as ContextVars
from pathlib import Path
from typing import Any, NamedTuple, cast
from weakref import WeakKeyDictionary

import mcp_types as types
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

ANSWERED = frozenset(
    {types.INVALID_PARAMS, types.METHOD_NOT_FOUND, types.INVALID_REQUEST, types.INTERNAL_ERROR}
)
"""Errors a server answers with: the session is as good as before."""


class Place(NamedTuple):
    """Where a server is."""

    name: str
    command: tuple[str, ...]
    env: dict[str, str]
    cwd: str | Path | None
    url: str
    headers: dict[str, str]


class Session:
    """Opened by the first who needs it."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._task: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[Client]
        self._closing: asyncio.Event
        self._tools: list[types.Tool] = []

    @staticmethod
    def of(known: WeakKeyDictionary[Any, Session], place: Place) -> Session:
        """The one of the loop that runs."""
        return known.setdefault(asyncio.get_running_loop(), Session(place))

    async def offered(self) -> list[types.Tool]:
        """What the server offers now: asked on a fresh session, unless one is open."""
        client = await self._client()
        try:
            self._tools = await _listed(client)
        except BaseException:
            self.drop()
            raise
        return self._tools

    async def call(
        self, name: str, arguments: dict[str, Any], meta: dict[str, Any], responses: Any, state: str | None
    ) -> types.CallToolResult | types.InputRequiredResult:
        """Call a tool; MCPError when the server refuses, anything else when the session is no good."""
        client = await self._client()
        try:
            return await client.session.call_tool(
                name, arguments, input_responses=responses, request_state=state,
                meta=cast("types.RequestParamsMeta", meta), allow_input_required=True,
            )  # fmt: skip
        except MCPError as error:
            if error.code not in ANSWERED:
                self.drop()
            raise
        except asyncio.CancelledError:
            raise  # the server is told; others may be using the session
        except BaseException:
            self.drop()
            raise

    def drop(self) -> None:
        """Whoever comes next opens another."""
        if self._task is not None:
            self._closing.set()
            self._task = None

    async def close(self) -> None:
        """End it, and wait until it has ended."""
        task = self._task
        self.drop()
        if task is not None:
            await asyncio.wait([task])

    async def _client(self) -> Client:
        if self._task is None or self._task.done():
            loop = asyncio.get_running_loop()
            self._ready, self._closing = loop.create_future(), asyncio.Event()
            started: asyncio.Future[asyncio.Task[None]] = loop.create_future()
            # In an empty context: the task belongs to no handler, and outlives the step that needs it first.
            loop.call_soon(self._start, started, context=ContextVars())
            self._task = await started
        return await asyncio.shield(self._ready)

    def _start(self, started: asyncio.Future[asyncio.Task[None]]) -> None:
        live = self._live(self._ready, self._closing)
        started.set_result(asyncio.get_running_loop().create_task(live, name=f"mcp:{self._place.name}"))

    async def _live(self, ready: asyncio.Future[Client], closing: asyncio.Event) -> None:
        try:
            async with self._opened() as client:
                await _listed(client)  # a server may want it to be done before any call
                ready.set_result(client)
                await closing.wait()
        except BaseException as error:
            if not ready.done():
                ready.set_exception(_first(error))
                ready.exception()  # whoever waited may be gone
            elif not isinstance(error, Exception | BaseExceptionGroup):
                raise

    def _opened(self) -> Client:
        place = self._place
        server: Any
        if place.url:
            server = streamable_http_client(place.url, http_client=create_mcp_http_client(place.headers))
        else:
            program, *arguments = place.command
            server = StdioServerParameters(command=program, args=arguments, env=place.env, cwd=place.cwd)
        return Client(server, elicitation_callback=_nobody_now, cache=None)


async def _nobody_now(context: Any, params: Any) -> types.ElicitResult:
    """Servers of the older protocol ask while a call runs: nobody can be asked for days within a step."""
    return types.ElicitResult(action="cancel")


async def _listed(client: Client) -> list[types.Tool]:
    found: list[types.Tool] = []
    cursor = None
    while True:
        page = await client.list_tools(cursor=cursor)
        found += page.tools
        cursor = page.next_cursor
        if cursor is None:
            return found


def _first(error: BaseException) -> BaseException:
    """Of a group, as task groups raise them, the first that says something."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, Exception) else ConnectionError("the session could not be opened")
