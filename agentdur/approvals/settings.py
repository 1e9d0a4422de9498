"""What approvals can be told. One object per App, filled in when its engine starts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(slots=True)
class ApprovalSettings:
    """`webhook`: who is told of every question. `link_key`: signs links and notices; without one a key is
    made once and kept in the store. `public_url`: where people reach the ingress; without it links are paths.
    """

    retention: timedelta = timedelta(days=30)
    webhook: str | None = None
    link_key: str | None = None
    public_url: str = ""

    @property
    def webhooks(self) -> tuple[str, ...]:
        """Who is told unless the question names others."""
        return () if self.webhook is None else (self.webhook,)
