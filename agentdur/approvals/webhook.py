"""Telling a webhook of a question."""

from __future__ import annotations

import httpx
import msgspec

from agentdur.approvals.links import links_of, signature_of
from agentdur.approvals.settings import ApprovalSettings
from agentdur.sdk.approval import ApprovalRecord
from agentdur.sdk.exceptions import RetryableError, TerminalError

SIGNATURE = "agentdur-signature"
SECONDS_MAX = 30.0
_AGAIN = frozenset({408, 425, 429})
"""Refusals that are worth another try, beside those of the server's own making."""


async def deliver(url: str, record: ApprovalRecord, settings: ApprovalSettings, key: str) -> int:
    """POST the question with its links; answers the status. TerminalError when it is refused for good."""
    notice = {
        "event": "approval.asked",
        "approval": record,
        "links": links_of(key, record, settings.public_url),
    }
    body = msgspec.json.encode(notice)
    headers = {
        "content-type": "application/json",
        "idempotency-key": record.id,
        SIGNATURE: signature_of(key, body),
    }
    async with httpx.AsyncClient(timeout=SECONDS_MAX) as http:
        answer = await http.post(url, content=body, headers=headers)
    if answer.is_success:
        return answer.status_code
    if answer.status_code in _AGAIN or answer.status_code >= 500:
        raise RetryableError(f"{url} answered {answer.status_code}", answer.status_code)
    raise TerminalError(f"{url} answered {answer.status_code}", answer.status_code)
