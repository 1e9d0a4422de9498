"""The two small pages behind a signed link: the question with its one button, and what became of it."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from agentdur.approvals.links import Choice
from agentdur.core.errors import AgentdurError
from agentdur.sdk.approval import ApprovalRecord

HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-robots-tag": "noindex",
}
"""The page runs nothing, loads nothing, is framed by nobody; its address, a key, goes to nobody else.
Its form must say where it is from: without a referrer, browsers would say `null`."""

_STYLE = """
:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}
body{max-width:42rem;margin:10vh auto;padding:0 1rem}
pre{padding:1rem;border:1px solid #8886;border-radius:.5rem;overflow:auto;white-space:pre-wrap}
input{font:inherit;padding:.4rem;width:100%;box-sizing:border-box;margin:.2rem 0 .8rem}
button{font:inherit;padding:.6rem 1.4rem;border-radius:.5rem;border:1px solid #8888;cursor:pointer}
small{opacity:.7}"""
_VERB = {"approve": "Approve", "reject": "Reject"}


def ask(record: ApprovalRecord, choice: Choice) -> str:
    """The question, and a button for the decision this link is about."""
    until = "" if record.deadline is None else f"<p><small>until {_when(record.deadline)}</small></p>"
    form = (
        '<form method="post"><label>Your name<input name="by" autocomplete="name"></label>'
        f'<label>Why<input name="reason"></label><button>{_VERB[choice]}</button></form>'
    )
    return _page(record.question, _payload(record.payload) + until + form)


def decided(record: ApprovalRecord, *, late: bool = False) -> str:
    """What became of it; `late`: by somebody else, before."""
    who = "nobody in time" if record.timed_out else record.by or "its asker"
    text = f"{record.status} by {who}, {_when(record.decided_at)}"
    lines = ["<p>Nothing was changed: it had been decided before.</p>"] if late else []
    lines.append(f"<p><strong>{escape(text)}</strong></p>")
    if record.reason:
        lines.append(f"<p>{escape(record.reason)}</p>")
    return _page(
        record.question,
        "".join(lines) + _payload(record.edited_payload if record.edited else record.payload),
    )


def refused(error: AgentdurError) -> str:
    """Why nothing can be decided here."""
    return _page("Nothing was decided", f"<p>{escape(str(error))}</p>")


def _payload(payload: Any) -> str:
    if payload is None:
        return ""
    return f"<pre>{escape(json.dumps(payload, indent=2, ensure_ascii=False))}</pre>"


def _when(at: Any) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M} UTC"


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f"<h1>{escape(title)}</h1>{body}"
    )
