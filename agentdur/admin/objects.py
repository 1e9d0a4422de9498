"""`GET /objects` and `GET /objects/{service}`: keys of objects and workflows: who holds one, and who waits.

Rules of this file:
1. The questions are fixed; what a request names gets into them as a text, whatever it holds.
2. What promises were given is a payload: there are markers in its place for who may not see it.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from agentdur.admin.query import instant, rows_of
from agentdur.core.ports import Engine
from agentdur.observe.redaction import hidden, marker

Json = dict[str, Any]
OBJECTS_DEFAULT, OBJECTS_MAX = 300, 1000
"""Keys of one answer."""
INBOX_MAX = 1000
"""Invocations that wait for one key, in one answer."""


def objects_routes(engine: Engine) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["state"])

    async def rows(sql: str) -> list[Json]:
        return rows_of(await engine.query(sql))

    @routes.get("/objects")
    async def list_objects(
        service: str | None = None,
        contains: Annotated[str, Query(description="what the key has to have in it")] = "",
        limit: Annotated[int, Query(ge=1, le=OBJECTS_MAX)] = OBJECTS_DEFAULT,
    ) -> Json:
        """Keys with state, a holder or an inbox, those first for which most wait. Keys of agentdur's own
        services only when `service` names one."""
        at, by = _where(service, contains), "service_name, service_key"
        found: dict[tuple[str, str], Json] = {}
        for row in await rows(
            f"SELECT {by}, invocation_id FROM sys_keyed_service_status WHERE {at} LIMIT {limit}"
        ):
            _place(found, row)["holder"] = row["invocation_id"]
        for row in await rows(
            f"SELECT {by}, COUNT(*) AS n FROM sys_inbox WHERE {at} GROUP BY {by} LIMIT {limit}"
        ):
            _place(found, row)["waiting"] = row["n"]
        for row in await rows(
            f"SELECT {by}, COUNT(*) AS n FROM state WHERE {at} GROUP BY {by} ORDER BY {by} LIMIT {limit}"
        ):
            _place(found, row)["values"] = row["n"]
        ordered = sorted(found.values(), key=_order)
        return {"objects": ordered[:limit], "more": len(ordered) >= limit}

    @routes.get("/objects/{service}")
    async def show_object(service: str, object_key: str) -> Json:
        """Who holds one key, who waits for it in their order, and its promises."""
        at = f"service_name = {_text(service)} AND service_key = {_text(object_key)}"
        held = await rows(f"SELECT invocation_id FROM sys_keyed_service_status WHERE {at}")
        inbox = await rows(
            f"SELECT id, created_at FROM sys_inbox WHERE {at} ORDER BY sequence_number LIMIT {INBOX_MAX}"
        )
        promises = await rows(
            "SELECT key, completed, completion_success_value_utf8 AS value, completion_failure AS failure"
            f" FROM sys_promise WHERE {at} ORDER BY key LIMIT {INBOX_MAX}"
        )
        return {
            "service": service, "key": object_key, "holder": held[0]["invocation_id"] if held else None,
            "inbox": [{"id": row["id"], "created_at": instant(row["created_at"])} for row in inbox],
            "promises": [{**row, "value": _shown(row["value"])} for row in promises],
        }  # fmt: skip

    return routes


def _text(value: str) -> str:
    """A text in SQL: nothing in it ends it."""
    return "'" + value.replace("'", "''") + "'"


def _where(service: str | None, contains: str) -> str:
    at = f"service_name = {_text(service)}" if service else "NOT starts_with(service_name, 'agentdur.')"
    return f"{at} AND strpos(service_key, {_text(contains)}) > 0" if contains else at


def _place(found: dict[tuple[str, str], Json], row: Json) -> Json:
    service, key = row["service_name"], row["service_key"] or ""
    empty = {"service": service, "key": key, "holder": None, "waiting": 0, "values": 0}
    return found.setdefault((service, key), empty)


def _order(one: Json) -> tuple[int, bool, str, str]:
    return -one["waiting"], one["holder"] is None, one["service"], one["key"]


def _shown(value: str | None) -> Any:
    return marker(value.encode()) if value is not None and hidden() else value
