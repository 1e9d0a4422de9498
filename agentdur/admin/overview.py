"""`GET /overview`: what goes on, what ended, and what it cost; for who may not ask in SQL as well.

Rules of this file:
1. The questions are fixed: nothing of a request gets into one but which of the windows is meant.
2. They count and add up. No payload is in the answer, so it is the same for everybody.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from fastapi import APIRouter

from agentdur.admin.query import instant, rows_of
from agentdur.core.journal import MODEL_STEP
from agentdur.core.ports import Engine

Json = dict[str, Any]
Length = Literal["1h", "1d", "7d", "30d"]


class Window(NamedTuple):
    """How far back, and the seconds of one column."""

    length: str
    bucket_seconds: int


WINDOWS: dict[Length, Window] = {
    "1h": Window("1 hour", 60), "1d": Window("24 hours", 1800), "7d": Window("7 days", 10_800),
    "30d": Window("30 days", 86_400),
}  # fmt: skip
DEAREST = 6
"""Rows of each list."""

_OURS = "NOT starts_with(target_service_name, 'agentdur.')"
# One that is in memory still and does nothing but wait for somebody waits, for who looks.
_SHOWN_STATUS = """CASE WHEN status = 'running' AND waiting_on IS NOT NULL
    AND NOT starts_with(waiting_on, 'completion ') THEN 'suspended' ELSE status END"""
_SUMS = "SUM(cost) AS cost, SUM(input_tokens) AS tin, SUM(output_tokens) AS tout, COUNT(*) AS calls"
_FIRST = f"ORDER BY cost DESC NULLS LAST LIMIT {DEAREST}"


def overview_routes(engine: Engine) -> APIRouter:
    """The one route."""
    routes = APIRouter(tags=["invocations"])

    @routes.get("/overview")
    async def overview(window: Length = "1d") -> Json:
        """Invocations by status, those that ended over time, and what model calls cost: over time, by agent,
        service, model, session and invocation, the dearest first. Times: when a column begins."""
        questions = _questions(WINDOWS[window])
        # One after the other: a page that is open in many browsers takes no more than its turn.
        found = {name: rows_of(await engine.query(sql)) for name, sql in questions.items()}
        return {
            "window": window, "bucket_seconds": WINDOWS[window].bucket_seconds,
            "statuses": {row["status"]: row["n"] for row in found["statuses"]},
            "ended": _ended(found["ended"]),
            "spend": [{"at": instant(row["at"]), **_spent(row)} for row in found["spend"]],
            "by_agent": [
                {"agent": (row["step"] or "").removeprefix(MODEL_STEP), **_spent(row)}
                for row in found["by_agent"]
            ],
            "by_service": [{"service": row["service"], **_spent(row)} for row in found["by_service"]],
            "by_model": [{"model": row["model"], **_spent(row)} for row in found["by_model"]],
            "by_session": [
                {"service": row["service"], "key": row["key"], **_spent(row)} for row in found["by_session"]
            ],
            "by_invocation": [
                {"id": row["id"], "target": _target(row), **_spent(row)} for row in found["by_invocation"]
            ],
        }  # fmt: skip

    return routes


def _questions(window: Window) -> dict[str, str]:
    spent = f"FROM llm_calls WHERE at > now() - INTERVAL '{window.length}'"
    return {
        "statuses": f"""SELECT {_SHOWN_STATUS} AS status, COUNT(*) AS n FROM sys_invocation
            WHERE status <> 'completed' AND {_OURS} GROUP BY 1""",
        "ended": f"""SELECT {_binned(window, "completed_at")} AS at, completion_result AS result,
            COUNT(*) AS n FROM sys_invocation_status
            WHERE status = 'completed' AND completed_at > now() - INTERVAL '{window.length}' AND {_OURS}
            GROUP BY 1, 2""",
        "spend": f"SELECT {_binned(window, 'at')} AS at, {_SUMS} {spent} GROUP BY 1",
        "by_service": f"""SELECT target_service_name AS service, {_SUMS} {spent}
            GROUP BY target_service_name {_FIRST}""",
        "by_agent": f"SELECT step, {_SUMS} {spent} GROUP BY step {_FIRST}",
        "by_model": f"SELECT model, {_SUMS} {spent} GROUP BY model {_FIRST}",
        "by_session": f"""SELECT target_service_name AS service, target_service_key AS key, {_SUMS} {spent}
            AND target_handler_name = 'turn' AND target_service_key IS NOT NULL
            GROUP BY target_service_name, target_service_key {_FIRST}""",
        "by_invocation": f"""SELECT invocation_id AS id, MIN(target_service_name) AS service,
            MIN(target_service_key) AS key, MIN(target_handler_name) AS handler, {_SUMS} {spent}
            GROUP BY invocation_id {_FIRST}""",
    }


def _binned(window: Window, column: str) -> str:
    return f"date_bin(INTERVAL '{window.bucket_seconds} seconds', {column}, TIMESTAMP '1970-01-01T00:00:00')"


def _spent(row: Json) -> Json:
    return {"cost": row["cost"], "tokens": (row["tin"] or 0) + (row["tout"] or 0), "calls": row["calls"]}


def _ended(rows: list[Json]) -> list[Json]:
    by_time: dict[int, Json] = {}
    for row in sorted(rows, key=lambda row: int(row["at"])):
        column = by_time.setdefault(row["at"], {"at": instant(row["at"]), "success": 0, "failure": 0})
        column[row["result"]] = row["n"]
    return list(by_time.values())


def _target(row: Json) -> str:
    return "/".join(part for part in (row["service"], row["key"], row["handler"]) if part)
