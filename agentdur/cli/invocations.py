"""`agentdur invocations …`: list, describe, and intervene."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from agentdur.cli.admin_api import AdminApi, segment
from agentdur.cli.output import Exit, Refused, complain, say, say_json, say_table

invocations = typer.Typer(no_args_is_help=True, help="Look at invocations, and intervene.")

Ids = Annotated[list[str], typer.Argument(help="Invocation ids, inv_…", metavar="ID...")]
Deployment = Annotated[
    str | None, typer.Option(help="Where it goes on: `keep`, `latest`, or a deployment id.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

_DONE = {
    "cancel": "cancelled", "kill": "killed", "pause": "paused", "resume": "resumed", "purge": "purged",
    "purge-journal": "its journal is purged",
}  # fmt: skip
_UNDER_WAY = {"cancel": "is asked to cancel", "pause": "is asked to pause"}


@invocations.command("list")
def list_invocations(
    context: typer.Context,
    *,
    service: Annotated[str | None, typer.Option(help="Of this service.")] = None,
    handler: Annotated[str | None, typer.Option(help="Of this handler.")] = None,
    key: Annotated[str | None, typer.Option(help="Of this object or workflow key.")] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(help="scheduled, pending, running, suspended, paused or completed; may be repeated."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 50,
    as_json: Json = False,
) -> None:
    """Invocations, newest first."""
    api: AdminApi = context.obj
    filters = {"service": service, "handler": handler, "key": key, "status": status or None}
    found = api.part("/invocations", "invocations", **filters, limit=limit)
    if as_json:
        say_json(found)
    elif not found:
        say("no invocations")
    else:
        say_table(("id", "target", "status", "created", "result"), [_row(one) for one in found])


@invocations.command()
def describe(
    context: typer.Context,
    id: Annotated[str, typer.Argument(help="An invocation id, inv_…")],
    as_json: Json = False,
) -> None:
    """One invocation, with its journal."""
    api: AdminApi = context.obj
    found = api.get(f"/invocations/{segment(id)}")
    if as_json:
        say_json(found)
        return
    journal = found.pop("journal", [])
    width = max(len(name) for name in found)
    for name, value in found.items():
        say(f"{name:<{width}}  {_shown(value)}")
    failure = found.get("last_failure")
    if isinstance(failure, dict) and failure.get("stacktrace"):
        say("\n" + failure["stacktrace"].rstrip())
    say("")
    say_table(("#", "at", "entry", "result"), [_entry(one) for one in journal])


@invocations.command()
def cancel(context: typer.Context, ids: Ids, as_json: Json = False) -> None:
    """Ask them to end: the next await of each raises a TerminalError, compensations run."""
    _operate(context, "cancel", ids, as_json)


@invocations.command()
def kill(context: typer.Context, ids: Ids, as_json: Json = False) -> None:
    """End them at once, and all they called. Compensations do not run."""
    _operate(context, "kill", ids, as_json)


@invocations.command()
def pause(context: typer.Context, ids: Ids, as_json: Json = False) -> None:
    """Stop their attempts until they are resumed."""
    _operate(context, "pause", ids, as_json)


@invocations.command()
def resume(context: typer.Context, ids: Ids, deployment: Deployment = None, as_json: Json = False) -> None:
    """Go on now: ends a pause, a back-off or a suspension."""
    _operate(context, "resume", ids, as_json, deployment)


@invocations.command()
def purge(context: typer.Context, ids: Ids, as_json: Json = False) -> None:
    """Forget completed invocations: result, idempotency key and journal."""
    _operate(context, "purge", ids, as_json)


@invocations.command("purge-journal")
def purge_journal(context: typer.Context, ids: Ids, as_json: Json = False) -> None:
    """Forget the journals of completed invocations; the results stay."""
    _operate(context, "purge-journal", ids, as_json)


@invocations.command("restart-as-new")
def restart_as_new(
    context: typer.Context,
    id: Annotated[str, typer.Argument(help="A completed invocation's id, inv_…")],
    from_entry: Annotated[int, typer.Option("--from", min=0, help="Keep the journal up to this entry.")] = 0,
    deployment: Deployment = None,
    as_json: Json = False,
) -> None:
    """Start a new invocation with the input, and the first entries, of a completed one."""
    api: AdminApi = context.obj
    query = {"from": from_entry, "deployment": deployment}
    _, answer = api.patch(f"/invocations/{segment(id)}/restart-as-new", **query)
    if as_json:
        say_json(answer)
    else:
        say(f"{id} goes on as {answer['new_invocation_id']}")


def _operate(
    context: typer.Context, action: str, ids: list[str], as_json: bool, deployment: str | None = None
) -> None:
    """One after the other; one that fails does not keep the others from being tried."""
    api: AdminApi = context.obj
    answers: list[dict[str, Any]] = []
    worst = Exit.OK
    for id in ids:
        try:
            status, _ = api.patch(f"/invocations/{segment(id)}/{action}", deployment=deployment)
        except Refused as error:
            worst = max(worst, error.code)
            answers.append({"id": id, "done": False, "error": str(error)})
            if not as_json:
                complain(error)
            continue
        under_way = status == 202
        answers.append({"id": id, "done": not under_way, "error": None})
        if not as_json:
            say(f"{id} {_UNDER_WAY[action] if under_way and action in _UNDER_WAY else _DONE[action]}")
    if as_json:
        say_json(answers)
    if worst:
        raise typer.Exit(worst)


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    result = one.get("completion_failure") or one.get("completion_result") or _last_failure(one)
    return one["id"], one["target"], one["status"], one.get("created_at", ""), _short(result)


def _last_failure(one: dict[str, Any]) -> str:
    failure = one.get("last_failure")
    return "" if not failure or one["status"] == "completed" else f"failed: {failure['message']}"


def _entry(one: dict[str, Any]) -> tuple[str, ...]:
    said = (one.get(name) for name in ("failure", "value", "keys", "invocation_id"))
    result = next((value for value in said if value is not None), "")
    text = one.get("text") or f"{one['kind']} {one.get('of', one.get('signal', ''))}"
    return str(one["index"]), one.get("at") or "", text, _short(_shown(result))


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool):
        return msgspec.json.encode(value).decode()  # as everything else that came from a journal
    if isinstance(value, dict) and set(value) >= {"code", "message"}:
        return f"[{value['code']}] {value['message']}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def _short(text: str, most: int = 100) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
