"""`GET /search`: runs in whose inputs, outputs, messages or results a text is.

Rules of this file:
1. An answer comes soon, and says how far back it looked: who wants older ones asks again, after it.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from agentdur.admin.settings import CURSOR_MAX
from agentdur.core.errors import BadRequest
from agentdur.core.ports import Engine
from agentdur.core.search import PLACES, Match, Place, Search, Spot
from agentdur.core.text import require_text
from agentdur.runtime.views import instant

Json = dict[str, Any]
TEXT_MAX = 200
"""Characters of what is looked for."""
FOUND_DEFAULT = 50
FOUND_MAX = 200
"""Invocations of one answer."""


def search_routes(engine: Engine) -> APIRouter:
    """The one route."""
    routes = APIRouter(tags=["invocations"])

    @routes.get("/search")
    async def search(
        *,
        q: Annotated[str, Query(description="the text; the case of ASCII letters does not matter")],
        place: Annotated[
            list[Place] | None, Query(alias="in", description="where; everywhere by default")
        ] = None,
        service: str | None = None,
        limit: Annotated[int, Query(ge=1, le=FOUND_MAX)] = FOUND_DEFAULT,
        after: Annotated[
            int | None, Query(ge=0, le=CURSOR_MAX, description="where the last answer ended")
        ] = None,
    ) -> Json:
        """Invocations with this text in their input, output, models' messages, or in what steps, calls and
        signals brought; newest first. With `after` there are older ones that were not looked at: `cut` says
        why (`time` or `limit`). Those of agentdur's own services only when `service` names one."""
        require_text("q", q)
        if not q.strip() or len(q) > TEXT_MAX:
            raise BadRequest(f"q: expected 1 to {TEXT_MAX} characters that are not all blank, got {len(q)}")
        places = tuple(one for one in PLACES if one in place) if place else PLACES
        what = Search(text=q, places=places, service=service, limit=limit, after=after)
        findings, runs = await engine.search(what)
        return {
            "runs": [
                {"run": _brief(runs[match.id]), "found": _shown(match)}
                for match in findings.matches
                if match.id in runs
            ],
            "looked_at": findings.looked_at, "back_to": instant(findings.back_to), "after": findings.after,
            "cut": findings.cut,
        }  # fmt: skip

    return routes


def _order(spot: Spot) -> int:
    return PLACES.index(spot.place)


def _brief(run: Json) -> Json:
    """Without the output: what is of it here is the excerpt."""
    return {name: value for name, value in run.items() if name != "output"}


def _shown(match: Match) -> list[Json]:
    return [
        {"in": spot.place, "count": spot.count, "excerpt": spot.excerpt}
        | ({} if spot.index is None else {"entry": spot.index})
        for spot in sorted(match.spots, key=_order)
    ]
