"""docs/reference/cli.md, written from the commands themselves: `python -m agentdur.cli.reference`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from agentdur.cli.commands import command as all_commands
from agentdur.cli.output import MEANING

_HEAD = """\
# The command `agentdur`

Generated from the commands themselves: `python -m agentdur.cli.reference > docs/reference/cli.md`.

Facts go to standard output, trouble to standard error: one line with the error's code and its cure. With
`--json` the facts are JSON. The exit code says how it went:

| code | meaning |
|---|---|
CODES

With `--watch` (`-w`) the facts are printed again whenever they have changed, with `--json` one line each,
until Ctrl-C or until nothing more can change: `agentdur invocations describe -w ID` waits for the end of a
run and tells by its exit code how that was.

Commands that act take ids or a filter. What a filter finds is shown with `--dry-run`; without it somebody at
the terminal is asked first, and a script says `--yes`. What is done is done to those that were found then.

`FILE[:APP]` is a file (`agent.py`), a module (`shop.agents`), and optionally the name of the App in it
(`agent.py:app`). Without the name it is the one called `app`, or the only one there is.

`serve` stops on SIGTERM and Ctrl-C: it accepts nothing new, lets requests finish for `shutdown-timeout`,
and leaves the rest to the next start.
"""


def cli_page() -> str:
    """The text of the page."""
    codes = "\n".join(f"| {code:d} | {meaning} |" for code, meaning in MEANING.items())
    return "\n".join((_HEAD.replace("CODES", codes), *_commands(all_commands(), "agentdur")))


def _commands(command: Any, name: str) -> Iterator[str]:
    options = [one for one in command.params if one.name != "help"]
    if options or not hasattr(command, "commands"):
        yield from _page_of(command, name, options)
    for child in getattr(command, "commands", {}).values():
        if not child.hidden:
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
