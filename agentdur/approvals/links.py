"""Signed links: one decision, on what was seen, until a time; given to those who have no other way in.

Rules of this file:
1. A token is a claim and its HMAC-SHA256, bound to the approval's id: nothing of it can be changed.
2. It decides nothing by itself: the object still sees whether it comes first and is about the right digest,
   so a token works once at most.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import quote

import msgspec
from msgspec import Struct

from agentdur.core.errors import ApprovalForged, ApprovalLinkExpired
from agentdur.sdk.approval import ApprovalRecord

KEEPER = "agentdur.Secret"
"""The object that keeps generated secrets; its key is the secret's name."""
LINK_SECRET = "approval-links"
LIFETIME = timedelta(days=30)
"""How long a link works when the question has no deadline."""

Choice = Literal["approve", "reject"]
CHOICES: tuple[Choice, ...] = ("approve", "reject")


class Claim(Struct, frozen=True, array_like=True):
    """What a link says: `until` in seconds since the epoch."""

    choice: Choice
    digest: str
    until: int


_CLAIM = msgspec.json.Decoder(Claim)


def make_key() -> str:
    """A new key for links."""
    return secrets.token_urlsafe(32)


def token_for(key: str, approval: str, claim: Claim) -> str:
    """The token of a claim about this approval."""
    said = msgspec.json.encode(claim)
    return f"{_text(said)}.{_text(_mac(key, approval, said))}"


def claim_of(key: str, approval: str, token: str, now: datetime) -> Claim:
    """What a token claims; ApprovalForged when nobody signed it for this approval, ApprovalLinkExpired when
    its time is over."""
    said = token.partition(".")[0]
    try:
        claimed = _bytes(said)
    except ValueError as error:
        raise ApprovalForged(f"{approval}: the link is none of ours") from error
    # As texts: bits that base64 does not use would make other tokens of the same bytes.
    expected = f"{_text(claimed)}.{_text(_mac(key, approval, claimed))}"
    if not hmac.compare_digest(token.encode(), expected.encode()):
        raise ApprovalForged(f"{approval}: the link is none of ours")
    claim = _CLAIM.decode(claimed)
    if now.timestamp() >= claim.until:
        raise ApprovalLinkExpired(f"{approval}: the link worked until {_instant(claim.until)}")
    return claim


def links_of(key: str, record: ApprovalRecord, public_url: str) -> Mapping[Choice, str]:
    """One link for each choice."""
    until = int((record.deadline or record.asked_at + LIFETIME).timestamp())
    return {
        choice: f"{public_url.rstrip('/')}/approvals/{quote(record.id)}/link/"
        + token_for(key, record.id, Claim(choice, record.digest, until))
        for choice in CHOICES
    }


def signature_of(key: str, body: bytes) -> str:
    """What goes with a notice, so that its receiver knows who wrote it: HMAC-SHA256 of the body, in hex."""
    return f"sha256={hmac.digest(key.encode(), body, 'sha256').hex()}"


def _mac(key: str, approval: str, said: bytes) -> bytes:
    return hmac.digest(key.encode(), f"link\n{approval}\n".encode() + said, "sha256")


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _instant(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
