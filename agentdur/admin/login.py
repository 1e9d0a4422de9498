"""Signing in at the web UI: a token for a cookie, for half a day.

Rules of this file:
1. The cookie is a session's id, not the token: browsers send cookies to every port of a host.
"""

from __future__ import annotations

from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from agentdur.admin.errors import json_only
from agentdur.admin.signed_in import SESSION_SECONDS, Sessions
from agentdur.core.access import CALLER, Access, Caller
from agentdur.core.errors import NotSignedIn

COOKIE = "agentdur_session"
TOKEN_CHARS_MAX = 1000


class Shown(BaseModel):
    """What somebody signs in with."""

    token: str = Field(max_length=TOKEN_CHARS_MAX)


def session_in(headers: dict[bytes, bytes]) -> str | None:
    """The session's id that a browser sent along."""
    try:
        cookies = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
    except CookieError:
        return None
    found = cookies.get(COOKIE)
    return found.value if found is not None else None


def login_routes(access: Access | None, sessions: Sessions) -> APIRouter:
    """`/login`, `/logout`, and `/whoami`."""
    routes = APIRouter(tags=["server"])

    @routes.get("/whoami")
    async def whoami(request: Request) -> dict[str, Any]:
        """Who asks, as this server knows it. `asked`: whether it wants to know; `payloads`, `sql`: whether he
        sees what handlers were given and gave, and may ask in SQL."""
        caller: Caller | None = request.scope.get(CALLER)
        return _about(access, caller)

    @routes.post("/login", dependencies=[Depends(json_only)])
    async def login(shown: Shown, request: Request) -> Response:
        """A cookie for a token."""
        caller = None if access is None else access.caller(shown.token)
        if access is None or caller is None:
            raise NotSignedIn("the token is not known")
        made = sessions.begin(sha256(shown.token.encode()).digest())
        answer = JSONResponse(_about(access, caller), headers={"cache-control": "no-store"})
        forwarded = request.headers.get("x-forwarded-proto", request.url.scheme)
        answer.set_cookie(
            COOKIE,
            made,
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="strict",
            secure=forwarded == "https",
        )
        return answer

    @routes.post("/logout")
    async def logout(request: Request) -> Response:
        """The session is over, also for who has copied its cookie."""
        if (session := session_in(dict(request.scope["headers"]))) is not None:
            sessions.end(session)
        answer = JSONResponse(_about(access, None))
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    return routes


def _about(access: Access | None, caller: Caller | None) -> dict[str, Any]:
    about: dict[str, Any] = {
        "asked": access is not None,
        "name": None,
        "role": None,
        "payloads": True,
        "sql": True,
    }
    if access is not None:
        about["sql"] = access.allows(caller, "POST", "/query")
        about["payloads"] = caller is not None and access.shows_payloads(caller)
    if caller is not None:
        about |= {"name": caller.name, "role": caller.role.name.lower()}
    return about
