"""Matching what the code does now against what the journal recorded.

Rules of this file:
1. A position is (branch, n-th command of that branch), so that tasks may interleave differently each time.
2. Type and name must be equal, and everything the command says to others; ids the engine chose and clock
   readings are taken from the journal.
"""

from __future__ import annotations

from collections.abc import Sequence

from agentdur.core import journal as j

_NOT_COMPARED = frozenset({"branch", "completion", "id_completion", "wake_at", "invoke_at", "value"})
_COMPARES_VALUE = (j.SetState,)


class Mismatch(Exception):
    """The code made another command than the one recorded at `index`; told to the attempt, not to users."""

    def __init__(self, index: int, recorded: str, made: str) -> None:
        super().__init__(f"entry {index} is {recorded}, but the code made {made}")
        self.index, self.recorded, self.made = index, recorded, made


class Recorded:
    """A journal ready for replay. Consumed command by command, per branch."""

    # Shared and never changed: most attempts replay nothing but their input.
    branches: dict[str, list[tuple[int, j.AnyCommand]]] = {}  # noqa: RUF012
    completions: dict[int, tuple[int, j.Completion]] = {}  # noqa: RUF012
    signals: dict[int | str, list[tuple[int, j.Signal]]] = {}  # noqa: RUF012
    cancels: tuple[int, ...] = ()
    input = j.Input()
    last_completion = 0
    length = 0

    def __init__(self, entries: Sequence[tuple[int, j.Entry]]) -> None:
        if len(entries) == 1 and type(entries[0][1]) is j.Input:
            self.input, self.length = entries[0][1], 1
            return
        self.branches, self.completions, self.signals = {}, {}, {}
        for index, entry in entries:
            self.length = index + 1
            self._add(index, entry)
        for commands in self.branches.values():
            commands.reverse()  # so that the next one is popped from the end

    def _add(self, index: int, entry: j.Entry) -> None:
        if isinstance(entry, j.Completion):
            self.completions[entry.id] = (index, entry)
            self.last_completion = max(self.last_completion, entry.id)
        elif isinstance(entry, j.Signal):
            self.store_signal(index, entry)
            if entry.signal == j.CANCEL_SIGNAL:
                self.cancels = (*self.cancels, index)
        elif isinstance(entry, j.Input):
            self.input = entry
        else:
            self.branches.setdefault(entry.branch, []).append((index, entry))
            for name in ("completion", "id_completion"):
                self.last_completion = max(self.last_completion, getattr(entry, name, 0))

    def store_completion(self, index: int, completion: j.Completion) -> None:
        """Keep a completion whose command has not been replayed yet."""
        if not self.completions:
            self.completions = {}
        self.completions[completion.id] = (index, completion)

    def store_signal(self, index: int, signal: j.Signal) -> None:
        """Keep a signal that nobody awaits yet."""
        if not self.signals:
            self.signals = {}
        self.signals.setdefault(signal.signal, []).append((index, signal))

    def leftover(self, abandoned: frozenset[str] = frozenset()) -> tuple[int, j.AnyCommand] | None:
        """The first recorded command that the code did not make, if there is one."""
        if not self.branches:
            return None
        rest = [
            commands[-1]
            for branch, commands in self.branches.items()
            if commands and not any(branch == a or branch.startswith(a + "/") for a in abandoned)
        ]
        return min(rest, key=lambda pair: pair[0]) if rest else None

    def calls_before(self, index: int) -> list[tuple[int, j.Call]]:
        """The recorded calls up to a journal position, in their order."""
        found = [
            (at, command)
            for commands in self.branches.values()
            for at, command in commands
            if isinstance(command, j.Call) and at < index
        ]
        return sorted(found, key=lambda pair: pair[0])


def check(index: int, recorded: j.AnyCommand, made: j.AnyCommand) -> None:
    """Raise Mismatch unless `made` is what was recorded."""
    if type(recorded) is not type(made) or recorded.name != made.name:
        raise Mismatch(index, describe(recorded), describe(made))
    for field in made.__struct_fields__:
        if field in _NOT_COMPARED and not (field == "value" and isinstance(made, _COMPARES_VALUE)):
            continue
        if getattr(recorded, field) != getattr(made, field):
            raise Mismatch(index, f"{describe(recorded)} [{field}]", f"{describe(made)} with another {field}")


def describe(command: j.AnyCommand) -> str:
    """A command as a person reads it: `Run 'search'`, `Call Tools/search`."""
    kind = type(command).__name__
    if isinstance(command, j.Call | j.OneWayCall):
        key = "" if command.key is None else f"/{command.key}"
        return f"{kind} {command.service}{key}/{command.handler}"
    if isinstance(command, j.GetEagerState | j.GetLazyState | j.SetState | j.ClearState):
        return f"{kind} '{command.key}'"
    if isinstance(command, j.GetPromise | j.PeekPromise | j.CompletePromise):
        return f"{kind} '{command.key}'"
    return f"{kind} '{command.name}'" if command.name else kind
