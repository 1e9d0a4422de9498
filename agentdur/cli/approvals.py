"""`agentdur approvals …`: what waits for a person, and deciding it.

Rules of this file:
1. What is decided is what was seen: a decision carries the digest of the question it answers.
2. Without --digest, somebody at the terminal sees the question first and says yes; a program gives --digest
   or --yes.
"""

from __future__ import annotations

import getpass
from typing import Annotated, Any, Literal

import msgspec
import typer

from agentdur.cli.admin_api import AdminApi, segment
from agentdur.cli.errors import BadArgument
from agentdur.cli.output import (
    EVERY,
    Every,
    Json,
    View,
    Watch,
    confirmed,
    pairs,
    present,
    say,
    say_json,
    short,
    shown,
    table,
)
from agentdur.cli.selecting import Yes

approvals = typer.Typer(no_args_is_help=True, help="Look at what waits for a person, and decide it.")

Id = Annotated[str, typer.Argument(metavar="ID", help="The approval's id.")]
By = Annotated[str | None, typer.Option(help="Who decides; default: the name you are logged in with.")]
Reason = Annotated[str, typer.Option(help="Why; the agent is told.")]
Digest = Annotated[
    str | None, typer.Option(help="Of the question you have seen; another one is not decided.")
]


@approvals.command("list")
def list_approvals(
    context: typer.Context,
    *,
    status: Annotated[
        Literal["pending", "decided", "all"], typer.Option(help="pending, decided or all.")
    ] = "pending",
    service: Annotated[str | None, typer.Option(help="Asked by this service.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 100,
    as_json: Json = False,
    watch: Watch = False,
    every: Every = EVERY,
) -> None:
    """Questions that wait, or have been decided."""
    api: AdminApi = context.obj

    def look() -> View:
        found = api.part("/approvals", "approvals", status=status, service=service, limit=limit)
        rows = [
            (one["id"], one["status"], one["service"], short(one["question"]), short(shown(one["payload"])),
             str(one.get("deadline") or ""))
            for one in found
        ]  # fmt: skip
        head = ("id", "status", "service", "question", "about", "deadline")
        return View(found, table(head, rows, none="no approvals"))

    present(look, as_json=as_json, watch=watch, every=every)


@approvals.command()
def show(
    context: typer.Context, id: Id, as_json: Json = False, watch: Watch = False, every: Every = EVERY
) -> None:
    """One question, with what it is about. Watched, until it is decided."""
    api: AdminApi = context.obj

    def look() -> View:
        found = api.get(f"/approvals/{segment(id)}")
        return View(found, _described(found), found["status"] != "pending")

    present(look, as_json=as_json, watch=watch, every=every)


@approvals.command()
def approve(
    context: typer.Context,
    id: Id,
    *,
    payload: Annotated[
        str | None, typer.Option(metavar="JSON", help="Approve this in place of what was asked about.")
    ] = None,
    reason: Reason = "",
    by: By = None,
    digest: Digest = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Say yes to what is asked, or to your own version of it."""
    body: dict[str, Any] = {}
    if payload is not None:
        try:
            body["payload"] = msgspec.json.decode(payload)
        except msgspec.DecodeError as error:
            raise BadArgument(f"--payload {short(payload, 40)!r} is no JSON ({error})") from error
    _decide(
        context.obj, "approve", id, {**body, "reason": reason, "by": by}, digest, yes=yes, as_json=as_json
    )


@approvals.command()
def reject(
    context: typer.Context,
    id: Id,
    *,
    reason: Reason = "",
    by: By = None,
    digest: Digest = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Say no to what is asked."""
    _decide(context.obj, "reject", id, {"reason": reason, "by": by}, digest, yes=yes, as_json=as_json)


def _decide(
    api: AdminApi,
    verdict: str,
    id: str,
    body: dict[str, Any],
    digest: str | None,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    path = f"/approvals/{segment(id)}"
    if digest is None:
        seen = api.get(path)
        if seen["status"] == "pending":  # else the server refuses, and says what was decided
            about = short(shown(body.get("payload", seen["payload"])), 300)
            confirmed(f"{verdict} {short(seen['question'])!r} about {about}?", yes=yes)
        digest = seen["digest"]
    body = {**body, "digest": digest, "by": body["by"] or getpass.getuser()}
    _, record = api.post(f"{path}/{verdict}", body)
    if as_json:
        say_json(record)
    else:
        say(f"{id} is {record['status']} by {record['by']}")


def _described(record: dict[str, Any]) -> str:
    facts = {name: value for name, value in record.items() if value not in (None, "")}
    return pairs(facts)
