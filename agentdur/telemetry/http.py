"""`GET /metrics`, for whoever hosts it."""

from __future__ import annotations

from fastapi import APIRouter, Response

from agentdur.telemetry.families import Families
from agentdur.telemetry.metrics import Registry


def metrics_routes(registry: Registry) -> APIRouter:
    """Prometheus' text, at the root of the router."""
    router, families = APIRouter(), Families(registry)

    @router.get("", include_in_schema=False)
    async def metrics() -> Response:
        """All metrics as they are now."""
        body, content_type = families.text()
        return Response(body, media_type=content_type)

    return router
