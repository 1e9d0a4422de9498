"""`POST /query`: questions in SQL, answered as JSON or as an Arrow stream.

Rules of this file:
1. `Accept: application/json` is answered with JSON, anything else with Arrow: clients rely on it.
2. In JSON what is null is left out, times are RFC 3339, durations ISO 8601, bytes hex.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import msgspec
from fastapi import APIRouter, Depends
from fastapi.requests import Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from agentdur.admin.errors import json_only
from agentdur.core.errors import ArrowMissing
from agentdur.core.ports import Engine
from agentdur.core.query import Kind, Table

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"


class Asked(BaseModel):
    """A question in SQL."""

    query: str = Field(description="one SELECT over the `sys_` tables and `state`")


def query_routes(engine: Engine) -> APIRouter:
    """The one route."""
    routes = APIRouter(tags=["query"])

    @routes.post(
        "/query", dependencies=[Depends(json_only)],
        responses={200: {"content": {JSON: {}, ARROW: {}}, "description": "`{\"rows\": […]}`, or Arrow"}},
    )  # fmt: skip
    async def query(body: Asked, request: Request) -> Response:
        """The rows of one SELECT. Only reads: see the reference of the tables and functions."""
        if request.headers.get("accept", "").strip().lower() == JSON:
            table = await engine.query(body.query)
            return Response(await asyncio.to_thread(as_json, table), media_type=JSON)
        write = _arrow()
        table = await engine.query(body.query)
        return Response(await asyncio.to_thread(write, table), media_type=ARROW)

    return routes


def _arrow() -> Callable[[Table], bytes]:
    try:
        write: Callable[[Table], bytes] = import_module("agentdur.admin.arrow").as_arrow
    except ImportError as error:
        raise ArrowMissing(str(error)) from error
    return write


def rows_of(table: Table) -> list[dict[str, Any]]:
    """Each row by the names of its columns, its values as the store has them."""
    names = [column.name for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.rows]


def as_json(table: Table) -> bytes:
    """`{"rows": [{…}]}`."""
    shows = [(column.name, _SHOWN.get(column.kind)) for column in table.columns]
    rows = [
        {
            name: value if show is None else show(value)
            for (name, show), value in zip(shows, row, strict=True)
            if value is not None
        }
        for row in table.rows
    ]
    return msgspec.json.encode({"rows": rows})


def instant(ms: int) -> str:
    """RFC 3339 with as many digits as are needed, in threes."""
    at = datetime.fromtimestamp(ms // 1000, UTC)
    fraction = f".{ms % 1000:03}" if ms % 1000 else ""
    return f"{at:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def duration(ms: int) -> str:
    """ISO 8601 in seconds."""
    sign, ms = ("-", -ms) if ms < 0 else ("", ms)
    fraction = f".{ms % 1000:03}".rstrip("0") if ms % 1000 else ""
    return f"{sign}PT{ms // 1000}{fraction}S"


_SHOWN: dict[Kind, Callable[[Any], Any]] = {
    Kind.TIMESTAMP: instant, Kind.DURATION: duration, Kind.BINARY: bytes.hex,
}  # fmt: skip
