"""`agentdur services …`: what is served, and with which options."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agentdur.cli.admin_api import AdminApi, segment
from agentdur.cli.errors import BadArgument
from agentdur.cli.output import EVERY, Every, Json, View, Watch, pairs, present, say_json, shown, table

services = typer.Typer(no_args_is_help=True, help="Look at what is served, and set options.")

Name = Annotated[str, typer.Argument(metavar="SERVICE", help="Its name.")]
OPTIONS = (
    "public", "idempotency_retention", "workflow_completion_retention", "journal_retention",
    "inactivity_timeout", "abort_timeout",
)  # fmt: skip
_APART = ("handlers", "documentation", "info")
_WORDS = {"true": True, "false": False}


@services.command("list")
def list_services(
    context: typer.Context, as_json: Json = False, watch: Watch = False, every: Every = EVERY
) -> None:
    """All of them."""
    api: AdminApi = context.obj

    def look() -> View:
        found = api.part("/services", "services")
        rows = [
            (one["name"], one["ty"], str(one["revision"]), "public" if one["public"] else "private",
             one["deployment_id"], ", ".join(each["name"] for each in one["handlers"]))
            for one in found
        ]  # fmt: skip
        head = ("service", "type", "revision", "callers", "deployment", "handlers")
        return View(found, table(head, rows, none="no services"))

    present(look, as_json=as_json, watch=watch, every=every)


@services.command()
def describe(context: typer.Context, service: Name, as_json: Json = False) -> None:
    """One service: its options, and its handlers with what goes in and out."""
    api: AdminApi = context.obj
    present(lambda: _view(api.get(f"/services/{segment(service)}")), as_json=as_json)


@services.command("set")
def set_options(
    context: typer.Context,
    service: Name,
    options: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=VALUE...", help="public, or one of the durations: journal-retention=2h."
        ),
    ],
    as_json: Json = False,
) -> None:
    """Set options in place of what its code or manifest says, until it is registered or declared anew."""
    api: AdminApi = context.obj
    body = dict(_option(text) for text in options)
    _, answer = api.patch(f"/services/{segment(service)}", body)
    if as_json:
        say_json(answer)
    else:
        present(lambda: _view(answer), as_json=False)


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or name not in OPTIONS:
        known = ", ".join(one.replace("_", "-") for one in OPTIONS)
        raise BadArgument(f"{text!r} is no NAME=VALUE of {known}")
    return name, _WORDS.get(value.lower(), value) if name == "public" else value


def _view(found: dict[str, Any]) -> View:
    facts = {name: value for name, value in found.items() if name not in _APART}
    rows = [
        (one["name"], one.get("ty", ""), "public" if one["public"] else "private", one["input_description"],
         one["output_description"], _own(one))
        for one in found["handlers"]
    ]  # fmt: skip
    handlers = table(("handler", "type", "callers", "input", "output", "its own options"), rows)
    notes = "\n".join(shown(note["message"]) for note in found.get("info", []))
    parts = (pairs(facts), found.get("documentation", ""), notes, handlers)
    return View(found, "\n\n".join(part for part in parts if part))


def _own(handler: dict[str, Any]) -> str:
    said = {name: handler[name] for name in OPTIONS[1:] if name in handler}
    said |= {name: value for name, value in handler["retry_policy"].items() if value is not None}
    return ", ".join(f"{name}={value}" for name, value in said.items())
