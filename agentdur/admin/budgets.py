"""`GET /budgets`: what is left of the accounts that invocations share.

Rules of this file:
1. An account says what it may spend and has spent, and which calls hold something: no payload is in it.
2. Accounts are read as they are stored, by name: who keeps them is not known here.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from msgspec import Struct

from agentdur.core.ports import Engine

Json = dict[str, Any]
ACCOUNTS_READ_MAX = 1000
"""Accounts that one question looks at, by key."""
ACCOUNTS_ASKED_MAX = 100
_SERVICE, _BOOK = "agentdur.Budget", "book"
_UNITS = ("calls", "tokens", "cost", "seconds")


class _Amounts(Struct, frozen=True):
    calls: float = 0
    tokens: float = 0
    cost: float = 0


class _Limits(Struct):
    calls: float | None = None
    tokens: float | None = None
    cost: float | None = None
    seconds: float | None = None
    on_limit: str = "fail"
    name: str = ""


class _Hold(Struct):
    amounts: _Amounts
    until: int


class _Account(Struct):
    limits: _Limits
    began: int = 0
    spent: _Amounts = _Amounts()
    holds: dict[str, _Hold] = {}
    raised: dict[str, float] = {}
    raises: int = 0


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
            stored: Any = await engine.states(_SERVICE, _BOOK, limit=ACCOUNTS_READ_MAX)
        else:
            asked = dict.fromkeys(account)
            stored = [(key, await engine.state(_SERVICE, key, _BOOK)) for key in asked]
        at = int(time.time() * 1000)
        found = [_shown(key, one, at) for key, value in stored if (one := _read(value)) is not None]
        found.sort(key=_fullness, reverse=True)
        return {"budgets": found if account is not None else found[:limit]}

    return routes


def _read(value: bytes | None) -> _Account | None:
    """None when it is not there any more, or of another version."""
    try:
        return None if value is None else msgspec.json.decode(value, type=_Account)
    except msgspec.MsgspecError:
        return None


def _shown(key: str, account: _Account, at: int) -> Json:
    began = datetime.fromtimestamp(account.began / 1000, UTC) if account.began else None
    return {
        "account": key, "name": account.limits.name, "on_limit": account.limits.on_limit,
        "raises": account.raises,
        "began_at": began and began.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "limits": [_limit(account, unit, at) for unit in _UNITS if getattr(account.limits, unit) is not None],
    }  # fmt: skip


def _limit(account: _Account, unit: str, at: int) -> Json:
    """A call that ended without telling holds nothing once it could not run any more."""
    allowed = getattr(account.limits, unit) + account.raised.get(unit, 0)
    if unit == "seconds":
        spent, held = (at - account.began) / 1000, 0.0
    else:
        spent = getattr(account.spent, unit)
        held = sum(getattr(hold.amounts, unit) for hold in account.holds.values() if hold.until > at)
    return {"unit": unit, "allowed": allowed, "spent": spent, "held": held, "left": max(0, allowed - spent)}


def _fullness(one: Json) -> float:
    return max((limit["spent"] / limit["allowed"] for limit in one["limits"]), default=0.0)
