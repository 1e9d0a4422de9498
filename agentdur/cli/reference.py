"""docs/reference/cli.md, written from the commands themselves: `python -m agentdur.cli.reference`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from agentdur.cli.commands import app

_HEAD = """\
# The command `agentdur`

Generated from the commands themselves: `python -m agentdur.cli.reference > docs/reference/cli.md`.

Facts go to standard output, trouble to standard error: one line with the error's code and its cure. With
`--json` the facts are JSON. The exit code says how it went:

| code | meaning |
|---|---|
| 0 | done |
| 1 | it failed, or the server refused it |
| 2 | it was asked for in the wrong way: an unknown option, a bad setting, no App in the file |
| 3 | there is no such invocation or service |
| 4 | no server answers |

`FILE[:APP]` is a file (`agent.py`), a module (`shop.agents`), and optionally the name of the App in it
(`agent.py:app`). Without the name it is the one called `app`, or the only one there is.

`serve` stops on SIGTERM and Ctrl-C: it accepts nothing new, lets requests finish for `shutdown-timeout`,
and leaves the rest to the next start.
"""


def cli_page() -> str:
    """The text of the page."""
    return "\n".join((_HEAD, *_commands(get_command(app), "agentdur")))


def _commands(command: Any, name: str) -> Iterator[str]:
    options = [one for one in command.params if one.name != "help"]
    if options or not hasattr(command, "commands"):
        yield from _page_of(command, name, options)
    for child in getattr(command, "commands", {}).values():
        yield from _commands(child, f"{name} {child.name}")


def _page_of(command: Any, name: str, options: list[Any]) -> Iterator[str]:
    arguments = [_argument(one) for one in options if one.param_type_name == "argument"]
    more = ["COMMAND"] if hasattr(command, "commands") else []
    yield f"## `{' '.join([name, *arguments, *more])}`\n"
    yield f"{' '.join((command.help or '').split())}\n"
    rows = [f"| `{', '.join(_names(one))}` | {one.help or ''} |" for one in options]
    if rows:
        yield "| option | meaning |\n|---|---|\n" + "\n".join(rows) + "\n"


def _argument(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _names(parameter: Any) -> list[str]:
    return [_argument(parameter)] if parameter.param_type_name == "argument" else list(parameter.opts)


if __name__ == "__main__":
    sys.stdout.write(cli_page())
