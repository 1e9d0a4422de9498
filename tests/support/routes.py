"""What an application answers, route by route, however its routers are put together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import routing
from starlette.applications import Starlette
from starlette.routing import BaseRoute


def every_route(app: Starlette) -> Iterator[Any]:
    """Each with its whole `path`; what is mounted is one."""
    walk: Any = getattr(
        routing, "iter_route_contexts", _as_they_are
    )  # younger than the oldest fastapi we take
    return iter(walk(app.routes))


def _as_they_are(routes: list[BaseRoute]) -> list[BaseRoute]:
    return routes
