"""`agentdur invocations …`: list, describe, and intervene, by ids or by what they have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from agentdur.cli.admin_api import AdminApi, segment
from agentdur.cli.errors import Refused
from agentdur.cli.forking import Edits, Input, Messages, Model, Prompt, Results, TurnAt
from agentdur.cli.output import (
    EVERY,
    Every,
    Exit,
    Json,
    View,
    Watch,
    complain,
    exit_code_of,
    pairs,
    present,
    say,
    say_json,
    short,
    shown,
    table,
    together,
)
from agentdur.cli.selecting import (
    Deployment,
    DryRun,
    Handler,
    Ids,
    Key,
    NewerThan,
    OlderThan,
    OnDeployment,
    Service,
    Statuses,
    Wanted,
    Yes,
    sweep,
)

invocations = typer.Typer(no_args_is_help=True, help="Look at invocations, and intervene.")

_DONE = {
    "cancel": "cancelled", "kill": "killed", "pause": "paused", "resume": "resumed", "purge": "purged",
    "purge-journal": "its journal is purged",
}  # fmt: skip
_UNDER_WAY = {"cancel": "is asked to cancel", "pause": "is asked to pause"}
_SAID = {
    "cancel": "Ask them to end: the next await of each raises a TerminalError, compensations run.",
    "kill": "End them at once, and all they called. Compensations do not run.",
    "pause": "Stop their attempts until they are resumed.",
    "purge": "Forget completed invocations: result, idempotency key and journal.",
    "purge-journal": "Forget the journals of completed invocations; the results stay.",
}


@invocations.command("list")
def list_invocations(
    context: typer.Context,
    *,
    service: Service = None,
    handler: Handler = None,
    key: Key = None,
    on: OnDeployment = None,
    status: Statuses = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 50,
    as_json: Json = False,
    watch: Watch = False,
    every: Every = EVERY,
) -> None:
    """Invocations, newest first."""
    api: AdminApi = context.obj
    wanted = Wanted(service, handler, key, on, status, older_than, newer_than)

    def look() -> View:
        found = api.part("/invocations", "invocations", **wanted.body(), limit=limit)
        head = ("id", "target", "status", "created", "result")
        return View(found, table(head, [_row(one) for one in found], none="no invocations"))

    present(look, as_json=as_json, watch=watch, every=every)


@invocations.command()
def describe(
    context: typer.Context,
    id: Annotated[str, typer.Argument(help="An invocation id, inv_…")],
    as_json: Json = False,
    watch: Watch = False,
    every: Every = EVERY,
) -> None:
    """One invocation, with its journal. Watched, until it has ended."""
    api: AdminApi = context.obj

    def look() -> View:
        found = api.get(f"/invocations/{segment(id)}")
        over = found["status"] == "completed"
        failed = over and found.get("completion_result") == "failure"
        return View(found, _described(found), over, Exit.RUN_FAILED if failed else Exit.OK)

    present(look, as_json=as_json, watch=watch, every=every)


def _operation(action: str) -> Callable[..., None]:
    def operation(
        context: typer.Context,
        ids: Ids = None,
        *,
        service: Service = None,
        handler: Handler = None,
        key: Key = None,
        on: OnDeployment = None,
        status: Statuses = None,
        older_than: OlderThan = None,
        newer_than: NewerThan = None,
        dry_run: DryRun = False,
        yes: Yes = False,
        as_json: Json = False,
    ) -> None:
        wanted = Wanted(service, handler, key, on, status, older_than, newer_than)
        if wanted.only(ids, dry_run=dry_run):
            _operate(context.obj, action, ids or [], as_json)
        else:
            sweep(context.obj, action, wanted, dry_run=dry_run, yes=yes, as_json=as_json)

    operation.__doc__ = _SAID[action]
    return operation


for _action in _SAID:
    invocations.command(_action)(_operation(_action))


@invocations.command()
def resume(
    context: typer.Context,
    ids: Ids = None,
    *,
    deployment: Deployment = None,
    service: Service = None,
    handler: Handler = None,
    key: Key = None,
    on: OnDeployment = None,
    status: Statuses = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Go on now: ends a pause, a back-off or a suspension."""
    wanted = Wanted(service, handler, key, on, status, older_than, newer_than)
    if wanted.only(ids, dry_run=dry_run):
        _operate(context.obj, "resume", ids or [], as_json, deployment)
    else:
        sweep(context.obj, "resume", wanted, deployment, dry_run=dry_run, yes=yes, as_json=as_json)


@invocations.command("restart-as-new", hidden=True)
@invocations.command()
def restart(
    context: typer.Context,
    ids: Ids = None,
    *,
    from_entry: Annotated[
        int | None, typer.Option("--from", min=0, help="Keep the journal up to this entry.")
    ] = None,
    deployment: Deployment = None,
    turn: TurnAt = None,
    model: Model = None,
    prompt: Prompt = None,
    message: Messages = None,
    result: Results = None,
    input: Input = None,
    service: Service = None,
    handler: Handler = None,
    key: Key = None,
    on: OnDeployment = None,
    status: Statuses = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Start new invocations with the input, and with --from the first entries, of completed ones. One that is
    edited (--model, --prompt, --message, --result, --input) keeps all before the edit, and asks anew from
    there; so may one that is suspended or paused."""
    wanted = Wanted(service, handler, key, on, status, older_than, newer_than)
    edits = Edits(turn, model, prompt, message, result, input)
    edits.check_one(ids)
    if not wanted.only(ids, dry_run=dry_run):
        wanted.check_whole(from_entry or 0)
        sweep(context.obj, "restart-as-new", wanted, deployment, dry_run=dry_run, yes=yes, as_json=as_json)
        return
    api: AdminApi = context.obj

    def once(id: str) -> dict[str, Any]:
        how = {
            name: one for name, one in (("from", from_entry), ("deployment", deployment)) if one is not None
        }
        if body := edits.body(api, id):
            new = api.post(f"/invocations/{segment(id)}/fork", {**how, **body})[1]["new_invocation_id"]
        else:
            new = api.patch(f"/invocations/{segment(id)}/restart-as-new", **how)[1]["new_invocation_id"]
        if not as_json:
            say(f"{id} goes on as {new}")
        return {"id": id, "new_invocation_id": new, "error": None}

    _each(ids or [], once, as_json)


def _operate(
    api: AdminApi, action: str, ids: list[str], as_json: bool, deployment: str | None = None
) -> None:
    def once(id: str) -> dict[str, Any]:
        status, _ = api.patch(f"/invocations/{segment(id)}/{action}", deployment=deployment)
        under_way = status == 202
        if not as_json:
            say(f"{id} {_UNDER_WAY[action] if under_way and action in _UNDER_WAY else _DONE[action]}")
        return {"id": id, "done": not under_way, "error": None}

    _each(ids, once, as_json)


def _each(ids: list[str], once: Callable[[str], dict[str, Any]], as_json: bool) -> None:
    """One after the other; one that is refused does not keep the others from being tried."""
    answers: list[dict[str, Any]] = []
    codes: list[Exit] = []
    for id in ids:
        try:
            answers.append(once(id))
        except Refused as error:
            codes.append(exit_code_of(error))
            answers.append({"id": id, "done": False, "error": str(error)})
            if not as_json:
                complain(error)
    if as_json:
        say_json(answers)
    if code := together(codes):
        raise typer.Exit(code)


_TABLES = ("journal", "failed_attempts", "edits")


def _described(found: dict[str, Any]) -> str:
    facts = {name: value for name, value in found.items() if name not in _TABLES}
    failure = found.get("last_failure")
    trace = failure.get("stacktrace", "") if isinstance(failure, dict) else ""
    journal = table(("#", "at", "entry", "result"), [_entry(one) for one in found.get("journal", [])])
    attempts = _attempts(found.get("failed_attempts", []))
    edits = _edits(found.get("edits", []))
    return "\n\n".join(part for part in (pairs(facts), edits, attempts, trace.rstrip(), journal) if part)


def _edits(made: list[dict[str, Any]]) -> str:
    """What it does otherwise than the run it was forked from, and whether it has come to that."""
    rows = [
        (
            one["what"], one["of"], str(one["entry"]),
            short(shown(one.get("model") or one.get("content") or "")), "yes" if one["used"] else "not yet",
        )
        for one in made
    ]  # fmt: skip
    return table(("edited", "of", "entry", "to", "used"), rows) if rows else ""


def _attempts(failed: list[dict[str, Any]]) -> str:
    """Nothing when there is one only: that is the last failure."""
    if not failed or failed[-1]["number"] == 1:
        return ""
    rows = [
        (str(one["attempt"]), one["ended_at"], one.get("node", ""), str(one.get("entry", "")), one["message"])
        for one in failed
    ]
    left_out = failed[0]["number"] - 1
    more = f"\n{left_out} earlier ones are not kept" if left_out else ""
    return table(("attempt", "failed at", "node", "entry", "why"), rows) + more


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    result = one.get("completion_failure") or one.get("completion_result") or _last_failure(one)
    return one["id"], one["target"], one["status"], one.get("created_at", ""), short(result)


def _last_failure(one: dict[str, Any]) -> str:
    failure = one.get("last_failure")
    return "" if not failure or one["status"] == "completed" else f"failed: {failure['message']}"


def _entry(one: dict[str, Any]) -> tuple[str, ...]:
    said = (one.get(name) for name in ("failure", "value", "keys", "invocation_id"))
    result = next((value for value in said if value is not None), "")
    text = one.get("text") or f"{one['kind']} {one.get('of', one.get('signal', ''))}"
    return str(one["index"]), one.get("at") or "", text, short(shown(result))
