"""`agentdur state …`: what objects and workflows keep.

Rules of this file:
1. An edit is made to the state that was read: who was overtaken is told, and changes nothing.
2. It waits for the handler that runs; the command waits a moment, and says which of the two it was.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from agentdur.cli.admin_api import AdminApi, segment
from agentdur.cli.errors import BadArgument, Overtaken
from agentdur.cli.output import (
    EVERY,
    Every,
    Json,
    View,
    Watch,
    confirmed,
    present,
    say,
    say_json,
    short,
    table,
)
from agentdur.cli.selecting import Yes

WAIT_S, LOOK_S = 2.0, 0.05
"""How long an edit is waited for, and how often it is looked for, before it is left to happen later."""

state = typer.Typer(no_args_is_help=True, help="Look at the state of objects and workflows, and edit it.")

Service = Annotated[str, typer.Argument(metavar="SERVICE", help="An object or a workflow.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="Its key.")]
Values = dict[str, str | list[int]]


@state.command()
def get(
    context: typer.Context,
    service: Service,
    key: Key,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this value, as it is.")] = None,
    *,
    as_json: Json = False,
    watch: Watch = False,
    every: Every = EVERY,
) -> None:
    """The state of a key, or one value of it."""
    api: AdminApi = context.obj

    def look() -> View:
        values = _read(api, service, key)["state"]
        if name is not None:
            if name not in values:
                raise BadArgument(f"{service}/{key} has no {name!r}; it has {', '.join(values) or 'nothing'}")
            return View(_data(values[name]), _text(values[name]))
        rows = [(one, short(_text(value))) for one, value in values.items()]
        data = {one: _data(value) for one, value in values.items()}
        return View(data, table(("name", "value"), rows, none="no state"))

    present(look, as_json=as_json, watch=watch, every=every)


@state.command()
def edit(
    context: typer.Context,
    service: Service,
    key: Key,
    *,
    put: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=JSON", help="Set one value; may be repeated."),
    ] = None,
    unset: Annotated[list[str] | None, typer.Option(help="Remove one value; may be repeated.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="The whole state as a JSON object, from a file or - for standard input."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Change the state of a key: by --set and --unset, from a file, or without either in your editor."""
    api: AdminApi = context.obj
    if file is not None and (put or unset):
        raise BadArgument("--file is the whole state: --set and --unset go without it")
    before = _read(api, service, key)
    if file is not None:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        after = _whole(text, before["state"])
    elif put or unset:
        after = _changed(before["state"], put or [], unset or [])
    else:
        after = _edited(before["state"])
    _replace(api, service, key, before, after, as_json=as_json)


@state.command()
def clear(
    context: typer.Context, service: Service, key: Key, yes: Yes = False, as_json: Json = False
) -> None:
    """Remove all values of a key."""
    api: AdminApi = context.obj
    before = _read(api, service, key)
    if before["state"]:
        confirmed(f"remove {', '.join(before['state'])} of {service}/{key}?", yes=yes)
    _replace(api, service, key, before, {}, as_json=as_json)


def _read(api: AdminApi, service: str, key: str) -> Any:
    return api.get(f"/services/{segment(service)}/state", object_key=key)


def _replace(api: AdminApi, service: str, key: str, before: Any, after: Values, *, as_json: bool) -> None:
    if _raw(after) == _raw(before["state"]):
        _tell(service, key, "nothing changes", done=True, as_json=as_json)
        return
    body = {"object_key": key, "new_state": after, "version": before["version"]}
    api.post(f"/services/{segment(service)}/state", body)
    deadline = time.monotonic() + WAIT_S
    while True:
        now = _read(api, service, key)
        if _raw(now["state"]) == _raw(after):
            _tell(service, key, "done", done=True, as_json=as_json)
            return
        if now["version"] != before["version"]:
            raise Overtaken(f"{service}/{key}")
        if time.monotonic() > deadline:
            _tell(
                service,
                key,
                "stored; it happens when the handler that runs has ended",
                done=False,
                as_json=as_json,
            )
            return
        time.sleep(LOOK_S)


def _tell(service: str, key: str, text: str, *, done: bool, as_json: bool) -> None:
    if as_json:
        say_json({"service": service, "object_key": key, "done": done})
    else:
        say(f"{service}/{key}: {text}")


def _changed(before: Values, put: list[str], unset: list[str]) -> Values:
    after = {name: value for name, value in before.items() if name not in unset}
    if unknown := [name for name in unset if name not in before]:
        raise BadArgument(
            f"--unset {unknown[0]}: there is no such value; there are {', '.join(before) or 'none'}"
        )
    for pair in put:
        name, equals, value = pair.partition("=")
        if not equals:
            raise BadArgument(f"--set takes NAME=JSON, not {pair!r}")
        after[name] = _written(_json(f"--set {name}", value))
    return after


def _edited(before: Values) -> Values:
    """In the editor of the person who is there."""
    if not sys.stdin.isatty():
        raise BadArgument("there is no terminal for an editor: use --set, --unset or --file")
    shown = {name: _data(value) for name, value in before.items()}
    return _whole(_typed(msgspec.json.format(msgspec.json.encode(shown)).decode()), before)


def _typed(text: str) -> str:
    """What is in the file when the editor is left."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "state.json"
        file.write_text(text, encoding="utf-8")
        try:
            subprocess.run([*shlex.split(editor), str(file)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise BadArgument(
                f"the editor {editor!r} failed ({error}): name another one in $EDITOR"
            ) from error
        return file.read_text(encoding="utf-8")


def _whole(text: str, before: Values) -> Values:
    """All values; one that says the same as before keeps its bytes."""
    given = _json("the state", text)
    if not isinstance(given, dict):
        raise BadArgument("the state is a JSON object of names and values")
    same = {name for name, value in given.items() if name in before and _data(before[name]) == value}
    return {name: before[name] if name in same else _written(value) for name, value in given.items()}


def _json(what: str, text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise BadArgument(f"{what}: {short(text, 40)!r} is no JSON ({error})") from error


BYTES, TEXT = "$bytes", "$text"
"""A value that is no JSON is shown, and taken, as its text or as its bytes in hex under such a name."""


def _written(value: Any) -> str | list[int]:
    if isinstance(value, dict) and len(value) == 1:
        if isinstance(raw := value.get(BYTES), str):
            return list(_unhexed(raw))
        if isinstance(text := value.get(TEXT), str):
            return text
    return msgspec.json.encode(value).decode()


def _unhexed(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise BadArgument(f"{BYTES} takes hexadecimal digits, not {short(text, 40)!r}") from error


def _data(value: str | list[int]) -> Any:
    if not isinstance(value, str):
        return {BYTES: bytes(value).hex()}
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return {TEXT: value}


def _text(value: str | list[int]) -> str:
    return value if isinstance(value, str) else f"{len(value)} bytes: {bytes(value).hex()}"


def _raw(values: Values) -> dict[str, bytes]:
    return {name: v.encode() if isinstance(v, str) else bytes(v) for name, v in values.items()}
