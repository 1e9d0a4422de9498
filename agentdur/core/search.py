"""Looking for text in what invocations were given, what they said and what came back to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

from msgspec import Struct

from agentdur.core.ids import InvocationId

Place: TypeAlias = Literal["input", "output", "answer", "told", "result"]
"""Where text is: what the invocation was given; what it answered, or the failure it ended with; what its
models answered; what they were told, which takes ten times as long to look through as all the rest; what
steps, calls, promises and signals brought."""
PLACES: tuple[Place, ...] = get_args(Place)


class Search(Struct, frozen=True, kw_only=True):
    """`text` as it is read, not as JSON spells it; the case of ASCII letters does not matter. `limit`: so
    many invocations are found at most. `after`: where the last Findings ended. `seconds`: how long it looks,
    and a little more. `stopped`: asked from time to time whether it shall end."""

    text: str
    places: tuple[Place, ...] = PLACES
    service: str | None = None
    limit: int = 50
    after: int | None = None
    seconds: float = 2.0
    stopped: Callable[[], bool] = bool


class Spot(Struct, frozen=True, kw_only=True):
    """Where the text is in one invocation: in `count` entries or messages, first in entry `index` (None: in
    no entry), with the words around it."""

    place: Place
    index: int | None
    count: int
    excerpt: str


class Match(Struct, frozen=True):
    """An invocation with the text in it."""

    id: InvocationId
    spots: list[Spot]


class Findings(Struct, frozen=True, kw_only=True):
    """Matches, newest first. `looked_at`: so many invocations were; `back_to`: when the oldest of them was
    created, ms since the epoch. `after`: there are older ones, go on after this. `cut`: why it has not looked
    at them."""

    matches: list[Match]
    looked_at: int
    back_to: int | None = None
    after: int | None = None
    cut: Literal["time", "limit"] | None = None
