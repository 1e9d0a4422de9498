"""The admin API as the command talks to it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from agentdur.admin.words import ERROR_HEADER
from agentdur.cli.errors import NoServer, NotAnAdminApi, Refused
from agentdur.config import Settings

TIMEOUT_S = 30.0
ACCEPT = {"accept": "application/json"}


class AdminApi:
    """One server. Refused when it says no, NoServer and NotAnAdminApi when it is not there."""

    def __init__(self, url: str, token: str | None = None) -> None:
        """`token`: says who asks, where the server wants to know."""
        self.url = url.rstrip("/")
        self._headers = {**ACCEPT, **({"authorization": f"Bearer {token}"} if token else {})}
        self._client: httpx.Client | None = None

    def get(self, path: str, **query: Any) -> Any:
        """What is there, as JSON; None when the answer is empty."""
        return self._ask("GET", path, query)[1]

    def part(self, path: str, name: str, **query: Any) -> Any:
        """One field of what is there."""
        answer = self.get(path, **query)
        if not isinstance(answer, dict) or name not in answer:
            raise NotAnAdminApi(f"{self.url} is no admin API")
        return answer[name]

    def patch(self, path: str, body: Any = None, **query: Any) -> tuple[int, Any]:
        """(status, what it answered)."""
        return self._ask("PATCH", path, query, body)

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        """(status, what it answered)."""
        return self._ask("POST", path, {}, body)

    def delete(self, path: str, **query: Any) -> tuple[int, Any]:
        """(status, what it answered)."""
        return self._ask("DELETE", path, query)

    def _http(self) -> httpx.Client:
        """One connection for all questions; certificates are only read where they are checked."""
        if self._client is None:
            secure = self.url.startswith("https:")
            self._client = httpx.Client(headers=self._headers, timeout=TIMEOUT_S, verify=secure)
        return self._client

    def _ask(self, method: str, path: str, query: dict[str, Any], body: Any = None) -> tuple[int, Any]:
        given = {name: value for name, value in query.items() if value is not None}
        try:
            answer = self._http().request(method, self.url + path, params=given, json=body)
        except (httpx.TransportError, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            why = str(error) or type(error).__name__
            raise NoServer(f"no server answers at {self.url} ({why})") from error
        if not answer.is_success:
            message, code = _told(answer)
            raise Refused(message, answer.status_code, code)
        try:
            return answer.status_code, msgspec.json.decode(answer.content) if answer.content else None
        except msgspec.DecodeError as error:
            raise NotAnAdminApi(f"{self.url} is no admin API") from error


def admin_url(settings: Settings) -> str:
    """Where these settings put the admin API, as seen from this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.admin_port}"


def segment(text: str) -> str:
    """One segment of a path."""
    return quote(text, safe="")


def _told(answer: httpx.Response) -> tuple[str, str]:
    """(message, code) of an error, whoever of the server's parts told it."""
    try:
        body = msgspec.json.decode(answer.content)
    except msgspec.DecodeError:
        body = None
    code = answer.headers.get(ERROR_HEADER, "")
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return body["message"], str(body.get("error") or code)
    return answer.text.strip() or f"HTTP {answer.status_code} {answer.reason_phrase}", code
