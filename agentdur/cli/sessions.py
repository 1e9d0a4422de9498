"""`agentdur sessions …`: chats, and what was said in them."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
import typer

from agentdur.cli.admin_api import AdminApi, segment
from agentdur.cli.errors import Refused
from agentdur.cli.output import EVERY, Every, Json, View, Watch, pairs, present, short, table

sessions = typer.Typer(no_args_is_help=True, help="Look at chat sessions.")

PAGE = 200
_FACTS = ("agent", "id", "title", "created", "updated", "turns", "messages", "model_calls", "cost", "usage")


@sessions.command("list")
def list_sessions(
    context: typer.Context,
    *,
    agent: Annotated[str | None, typer.Option(help="With this agent.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 100,
    as_json: Json = False,
    watch: Watch = False,
    every: Every = EVERY,
) -> None:
    """All of them."""
    api: AdminApi = context.obj

    def look() -> View:
        try:
            found = api.part("/sessions", "sessions", agent=agent, limit=limit)
        except Refused as error:
            if agent is not None or error.status != HTTPStatus.NOT_FOUND:
                raise
            return View([], "no sessions: this server serves no chats")
        rows = [
            (one["agent"], one["id"], short(one.get("title") or "", 40), str(one["turns"]),
             "answers" if one.get("running") else "rests", _money(one.get("cost")), _at(one["updated"]))
            for one in found
        ]  # fmt: skip
        head = ("agent", "session", "title", "turns", "now", "cost", "updated")
        return View(found, table(head, rows, none="no sessions"))

    present(look, as_json=as_json, watch=watch, every=every)


@sessions.command()
def show(
    context: typer.Context,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="The agent's name.")],
    session: Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.")],
    *,
    as_json: Json = False,
    watch: Watch = False,
    every: Every = EVERY,
) -> None:
    """One session, with what was said."""
    api: AdminApi = context.obj
    path = f"/sessions/{segment(agent)}/{segment(session)}"

    def look() -> View:
        about = api.get(path)
        messages = _messages(api, f"{path}/messages")
        facts = {name: about[name] for name in _FACTS if about.get(name) not in (None, "")}
        facts |= {name: _at(facts[name]) for name in ("created", "updated") if name in facts}
        text = f"{pairs(facts)}\n\n" + "\n".join(_said(one) for one in messages)
        return View({**about, "history": messages}, text.rstrip())

    present(look, as_json=as_json, watch=watch, every=every)


def _messages(api: AdminApi, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after = -1
    while True:
        page = api.get(path, after=after, limit=PAGE)
        found += page["messages"]
        if page.get("after") is None:
            return found
        after = page["after"]


def _said(one: dict[str, Any]) -> str:
    message = one.get("message", one)
    calls = [f"calls {_call(call)}" for call in message.get("tool_calls") or ()]
    content = message.get("content")
    text = content if isinstance(content, str) else "" if content is None else _json(content)
    return f"{message.get('role', '?')}: {text}{' ' if text and calls else ''}{'; '.join(calls)}"


def _call(call: dict[str, Any]) -> str:
    function = call.get("function", call)
    return f"{function.get('name')}({function.get('arguments', '')})"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _money(cost: Any) -> str:
    return "" if cost is None else f"{float(cost):.4f}"
