"""`agentdur deployments …`: where handlers run elsewhere."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Annotated, Any

import typer

from agentdur.cli.admin_api import AdminApi, segment
from agentdur.cli.errors import Refused
from agentdur.cli.output import Json, say, say_json, say_table

WAIT_S = 1.0
"""Between two looks whether a deployment is drained."""

deployments = typer.Typer(no_args_is_help=True, help="Register endpoints of SDKs, and look at them.")


@deployments.command()
def register(
    context: typer.Context,
    uri: Annotated[str, typer.Argument(help="Where the endpoint answers, or a Lambda function's ARN.")],
    *,
    use_http_11: Annotated[bool, typer.Option("--use-http1.1", help="Speak HTTP/1.1 to it.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Ask it again, and replace it.")] = False,
    breaking: Annotated[
        bool, typer.Option("--breaking", help="Let a service change from one type to another.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be served.")] = False,
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Sent with every request; may be repeated."),
    ] = None,
    assume_role_arn: Annotated[
        str | None, typer.Option(help="The role in which a Lambda function is called.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask an endpoint what it serves, and serve it from now on."""
    api: AdminApi = context.obj
    headers = dict(pair.partition("=")[::2] for pair in header or ())
    place: dict[str, Any] = {"uri": uri, "use_http_11": use_http_11}
    if uri.startswith("arn:"):
        place = {"arn": uri, "assume_role_arn": assume_role_arn}
    body = {
        **place, "force": force, "breaking": breaking, "dry_run": dry_run,
        "additional_headers": headers,
    }  # fmt: skip
    _, made = api.post("/deployments", body)
    if as_json:
        say_json(made)
        return
    say(f"{made['id']} serves, by {made.get('sdk_version', 'an unknown SDK')}:")
    say_table(("service", "type", "revision", "handlers"), [_service(one) for one in made["services"]])


@deployments.command("list")
def list_deployments(context: typer.Context, as_json: Json = False) -> None:
    """All of them."""
    api: AdminApi = context.obj
    found = api.part("/deployments", "deployments")
    if as_json:
        say_json(found)
    elif not found:
        say("no deployments")
    else:
        rows = [_deployment(one) for one in found]
        say_table(("id", "uri", "services (revision)", "created"), rows)


@deployments.command()
def describe(
    context: typer.Context,
    id: Annotated[str, typer.Argument(help="A deployment id, dp_…")],
    as_json: Json = False,
) -> None:
    """One, with its services."""
    api: AdminApi = context.obj
    found = api.get(f"/deployments/{segment(id)}")
    if as_json:
        say_json(found)
        return
    for name in (
        "id",
        "uri",
        "arn",
        "assume_role_arn",
        "protocol_type",
        "http_version",
        "sdk_version",
        "created_at",
    ):
        if name in found:
            say(f"{name.replace('_', ' ')}: {found[name]}")
    say_table(("service", "type", "revision", "handlers"), [_service(one) for one in found["services"]])


@deployments.command()
def remove(
    context: typer.Context,
    id: Annotated[str, typer.Argument(help="A deployment id, dp_…")],
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Until nothing needs it any more.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Now: what needs it fails, and is tried again.")
    ] = False,
) -> None:
    """Forget it, when it is drained: no new calls go there, and what began there has ended."""
    api: AdminApi = context.obj
    query = {"force": "true"} if force else {"drained": "true"}
    while True:
        try:
            api.delete(f"/deployments/{segment(id)}", **query)
        except Refused as error:
            if not wait or error.status != HTTPStatus.CONFLICT:
                raise
            time.sleep(WAIT_S)
        else:
            break
    say(f"{id} is removed")


def _deployment(one: dict[str, Any]) -> tuple[str, ...]:
    services = ", ".join(f"{service['name']} ({service['revision']})" for service in one["services"])
    return one["id"], one.get("uri") or one["arn"], services, one["created_at"][:19]


def _service(one: dict[str, Any]) -> tuple[str, str, str, str]:
    names = ", ".join(handler["name"] for handler in one["handlers"])
    return one["name"], one["ty"], str(one["revision"]), names
