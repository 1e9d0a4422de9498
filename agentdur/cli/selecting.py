"""Which invocations a command means, and one action on many of them.

Rules of this file:
1. A command takes ids or a filter, never both, and never neither.
2. Before anything happens to what a filter finds, a person has seen how many they are, or said --yes.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NamedTuple

import typer

from agentdur.admin.words import BATCH_IDS_MAX, STATUSES
from agentdur.cli.admin_api import AdminApi
from agentdur.cli.errors import BadArgument
from agentdur.cli.output import Exit, confirmed, say, say_json, table
from agentdur.core.durations import BadDuration, parse_duration

Ids = Annotated[list[str] | None, typer.Argument(help="Invocation ids, inv_…", metavar="[ID...]")]
Service = Annotated[str | None, typer.Option(help="Of this service.")]
Handler = Annotated[str | None, typer.Option(help="Of this handler.")]
Key = Annotated[str | None, typer.Option(help="Of this object or workflow key.")]
OnDeployment = Annotated[str | None, typer.Option("--on", help="Which began at this deployment, dp_…")]
Statuses = Annotated[
    list[str] | None,
    typer.Option(help=f"{', '.join(STATUSES[:-1])} or {STATUSES[-1]}; may be repeated."),
]
OlderThan = Annotated[str | None, typer.Option(help="Made before so long: `2h`, `3 days`.")]
NewerThan = Annotated[str | None, typer.Option(help="Made within so long: `10m`.")]
Deployment = Annotated[
    str | None, typer.Option(help="Where it goes on: `keep`, `latest`, or a deployment id.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would happen to which.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether they are all meant.")]


class Wanted(NamedTuple):
    """A filter as it was typed."""

    service: str | None
    handler: str | None
    key: str | None
    deployment: str | None
    status: list[str] | None
    older_than: str | None
    newer_than: str | None

    def only(self, ids: list[str] | None, *, dry_run: bool) -> bool:
        """Whether the ids are meant; BadArgument unless it is one of the two."""
        if bool(ids) == any(self):
            raise BadArgument("give invocation ids or a filter (--service, --status, …), one of the two")
        if ids and dry_run:
            raise BadArgument("--dry-run is for filters")
        return bool(ids)

    def check_whole(self, from_entry: int) -> None:
        """BadArgument: an entry is one of one journal."""
        if from_entry:
            raise BadArgument("--from names an entry of one journal: give the id of its invocation")

    def body(self) -> dict[str, Any]:
        """As the admin API takes it."""
        given: dict[str, Any] = {
            "service": self.service, "handler": self.handler, "key": self.key, "deployment": self.deployment,
            "status": self.status or None, "created_before": _ago("--older-than", self.older_than),
            "created_after": _ago("--newer-than", self.newer_than),
        }  # fmt: skip
        return {name: value for name, value in given.items() if value is not None}


def _ago(option: str, duration: str | None) -> str | None:
    if duration is None:
        return None
    try:
        return (datetime.now(UTC) - timedelta(milliseconds=parse_duration(duration))).isoformat()
    except (BadDuration, OverflowError) as error:
        raise BadArgument(f"{option} {duration!r}: {error}") from error


def sweep(
    api: AdminApi,
    action: str,
    wanted: Wanted,
    deployment: str | None = None,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Find them, ask, do it to those that were found and to no others, and tell of each."""
    seen = _found(api, {"action": action, "filter": wanted.body(), "deployment": deployment})
    ids = [_old(one) for one in seen["succeeded"]]
    if ids and not dry_run:
        confirmed(f"{action} {len(ids)} invocations ({_some(seen['matched'])})?", yes=yes)
        seen |= _done(api, action, ids, deployment, seen["failed"])
    if as_json:
        say_json({"action": action, "dry_run": dry_run, **seen})
    else:
        say(_table(action, seen, dry_run=dry_run))
    if seen["failed"]:
        raise typer.Exit(Exit.FAILURE)


def _found(api: AdminApi, body: dict[str, Any]) -> dict[str, Any]:
    """All pages of a dry run as one."""
    whole: dict[str, Any] = {"matched": [], "succeeded": [], "failed": []}
    after = None
    while True:
        _, page = api.post("/invocations/batch", {**body, "dry_run": True, "after": after})
        for name in whole:
            whole[name] += page[name]
        after = page["after"]
        if after is None:
            return whole


def _done(
    api: AdminApi, action: str, ids: list[str], deployment: str | None, failed: list[Any]
) -> dict[str, Any]:
    whole: dict[str, Any] = {"succeeded": [], "failed": list(failed)}
    for start in range(0, len(ids), BATCH_IDS_MAX):
        body = {"invocation_ids": ids[start : start + BATCH_IDS_MAX], "deployment": deployment}
        _, part = api.post(f"/internal/invocations_batch_operations/{action}", body)
        for name in whole:
            whole[name] += part[name]
    return whole


def _old(one: Any) -> str:
    return str(one["old_invocation_id"] if isinstance(one, dict) else one)


def _table(action: str, seen: dict[str, Any], *, dry_run: bool) -> str:
    errors = {one["invocation_id"]: one["error"] for one in seen["failed"]}
    new = {_old(one): one.get("new_invocation_id", "") for one in seen["succeeded"] if isinstance(one, dict)}
    done = f"would {action}" if dry_run else f"{action}: done"
    rows = [
        (one["id"], one["target"], one["status"], errors.get(one["id"], done), new.get(one["id"], ""))
        for one in seen["matched"]
    ]
    return table(("id", "target", "was", "what", "new"), rows, none="no invocations")


def _some(matched: list[dict[str, Any]], most: int = 3) -> str:
    names = [one["target"] for one in matched[:most]]
    return ", ".join(names) + (", …" if len(matched) > most else "")
