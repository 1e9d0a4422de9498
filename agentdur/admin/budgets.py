"""`GET /budgets`: what is left of the accounts that invocations share.

Rules of this file:
1. An account says what it may spend and has spent, and which calls hold something: no payload is in it.
2. The arithmetic is the book's own (`core.book`).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query

from agentdur.core.book import ACCOUNTS, BOOK, UNITS, Book, Unit, read
from agentdur.core.ports import Engine

Json = dict[str, Any]
ACCOUNTS_READ_MAX = 1000
"""Accounts that one question looks at, by key."""
ACCOUNTS_ASKED_MAX = 100


def budgets_routes(engine: Engine) -> APIRouter:
    """The one route."""
    routes = APIRouter(tags=["invocations"])

    @routes.get("/budgets")
    async def budgets(
        account: Annotated[list[str] | None, Query(max_length=ACCOUNTS_ASKED_MAX)] = None,
        limit: Annotated[int, Query(ge=1, le=ACCOUNTS_READ_MAX)] = 50,
    ) -> Json:
        """Shared and named budgets: their limits, what is spent, held by calls under way, and left. Those
        that are asked for, or those nearest to a limit. Those of one handler are in its model steps."""
        if account is None:
            stored: Any = await engine.states(ACCOUNTS, BOOK, limit=ACCOUNTS_READ_MAX)
        else:
            asked = dict.fromkeys(account)
            stored = [(key, await engine.state(ACCOUNTS, key, BOOK)) for key in asked]
        at = int(time.time() * 1000)
        found = [_shown(key, book, at) for key, value in stored if value and (book := read(value))]
        found.sort(key=_fullness, reverse=True)
        return {"budgets": found if account is not None else found[:limit]}

    return routes


def _shown(key: str, book: Book, at: int) -> Json:
    began = datetime.fromtimestamp(book.began / 1000, UTC) if book.began else None
    return {
        "account": key, "name": book.limits.name, "on_limit": book.limits.on_limit, "raises": book.raises,
        "began_at": began and began.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "limits": [
            _limit(book, unit, allowed, at) for unit in UNITS if (allowed := book.limit(unit)) is not None
        ],
    }  # fmt: skip


def _limit(book: Book, unit: Unit, allowed: float, at: int) -> Json:
    spent = book.spent_of(unit, at)
    return {
        "unit": unit, "allowed": allowed, "spent": spent, "held": book.held_of(unit, at),
        "left": max(0, allowed - spent),
    }  # fmt: skip


def _fullness(one: Json) -> float:
    shares = (limit["spent"] / limit["allowed"] if limit["allowed"] else 1 for limit in one["limits"])
    return max(shares, default=0.0)
