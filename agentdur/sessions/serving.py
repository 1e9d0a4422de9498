"""The HTTP routes that come with chats: `/sessions`, and the dialects of others on the same sessions."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter

from agentdur.sdk.client import EngineClient
from agentdur.sdk.service import BaseService
from agentdur.sessions.chat import Chat
from agentdur.sessions.openai_chat import chat_routes
from agentdur.sessions.openai_responses import response_routes
from agentdur.sessions.routes import session_routes
from agentdur.sessions.ui import ui_routes
from agentdur.sessions.web import Desk


def session_guests(client: EngineClient, services: Sequence[BaseService]) -> list[tuple[str, APIRouter]]:
    """(prefix, routes) for all chats among the services."""
    desk = Desk(client, [service for service in services if isinstance(service, Chat)])
    sessions = session_routes(desk)
    sessions.include_router(ui_routes(desk))
    v1 = chat_routes(desk)
    v1.include_router(response_routes(desk))
    return [("sessions", sessions), ("v1", v1)]


Chat.guests = staticmethod(session_guests)
