"""The admin API as the command talks to it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from agentdur.cli.output import Exit, Refused
from agentdur.config import Settings

TIMEOUT_S = 30.0


class AdminApi:
    """One server. Refused when it says no, or is not there."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def get(self, path: str, **query: Any) -> Any:
        """What is there, as JSON; None when the answer is empty."""
        return self._ask("GET", path, query)[1]

    def part(self, path: str, name: str, **query: Any) -> Any:
        """One field of what is there."""
        answer = self.get(path, **query)
        if not isinstance(answer, dict) or name not in answer:
            raise Refused(f"{self.url} is no admin API", Exit.CANNOT_CONNECT)
        return answer[name]

    def patch(self, path: str, **query: Any) -> tuple[int, Any]:
        """(status, what it answered)."""
        return self._ask("PATCH", path, query)

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        """(status, what it answered)."""
        return self._ask("POST", path, {}, body)

    def delete(self, path: str, **query: Any) -> tuple[int, Any]:
        """(status, what it answered)."""
        return self._ask("DELETE", path, query)

    def _ask(self, method: str, path: str, query: dict[str, Any], body: Any = None) -> tuple[int, Any]:
        given = {name: value for name, value in query.items() if value is not None}
        try:
            answer = httpx.request(method, self.url + path, params=given, json=body, timeout=TIMEOUT_S)
        except (httpx.TransportError, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise Refused(
                f"no server answers at {self.url} ({error}): start one with `agentdur serve FILE`, "
                "or name its admin API with --admin-url",
                Exit.CANNOT_CONNECT,
            ) from error
        if not answer.is_success:
            missing = answer.status_code == HTTPStatus.NOT_FOUND
            code = Exit.NOT_FOUND if missing else Exit.FAILURE
            raise Refused(_message(answer), code, answer.status_code)
        try:
            return answer.status_code, msgspec.json.decode(answer.content) if answer.content else None
        except msgspec.DecodeError as error:
            raise Refused(f"{self.url} is no admin API", Exit.CANNOT_CONNECT) from error


def admin_url(settings: Settings) -> str:
    """Where these settings put the admin API, as seen from this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.admin_port}"


def segment(text: str) -> str:
    """One segment of a path."""
    return quote(text, safe="")


def _message(answer: httpx.Response) -> str:
    try:
        body = msgspec.json.decode(answer.content)
    except msgspec.DecodeError:
        body = None
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return str(body["message"])
    return answer.text.strip() or f"HTTP {answer.status_code} {answer.reason_phrase}"
