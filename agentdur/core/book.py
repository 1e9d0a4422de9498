"""The arithmetic of a budget: what was spent, what calls that run may spend, what is left.

Rules of this file:
1. A limit is reached when what was spent reaches it: the answer that crosses it is still kept.
2. A call that runs holds what it may cost at most. As long as what was spent and what is held reach the
   limit, no further call begins: however many run at once, one answer at most goes beyond it.
3. Nothing here waits or knows the time; an account in memory and one in an object use the same book, and
   whoever shows one reads it by `read`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Unit = Literal["calls", "tokens", "cost", "seconds"]
UNITS: tuple[Unit, ...] = ("calls", "tokens", "cost", "seconds")
ACCOUNTS, BOOK = "agentdur.Budget", "book"
"""The object whose keys are accounts, and the name of its state value that is a book."""


class Amounts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What calls cost: how many they are, their tokens, US dollars."""

    calls: int = 0
    tokens: int = 0
    cost: float = 0.0

    def plus(self, other: Amounts) -> Amounts:
        """Both together."""
        return Amounts(self.calls + other.calls, self.tokens + other.tokens, self.cost + other.cost)

    def negative(self) -> Amounts:
        """What takes it back."""
        return Amounts(-self.calls, -self.tokens, -self.cost)


NOTHING = Amounts()


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """How much there is of each; None: as much as you like."""

    tokens: float | None = None
    cost: float | None = None
    calls: float | None = None
    seconds: float | None = None
    on_limit: str = "fail"
    name: str = ""

    @property
    def model(self) -> str | None:
        """The cheaper model to go on with."""
        return None if self.on_limit in ("fail", "approve") else self.on_limit


class Hold(msgspec.Struct, frozen=True):
    """What a call that runs may cost. It counts until `until` (ms since the epoch), should its end not be
    told."""

    amounts: Amounts
    until: int


class Reached(msgspec.Struct, frozen=True):
    """Which limit is reached."""

    unit: Unit
    spent: float
    limit: float

    def __str__(self) -> str:
        return f"{self.spent:.6g} of {self.limit:.6g} {self.unit}"


class Book(msgspec.Struct, omit_defaults=True):
    """One account. `began`: ms since the epoch."""

    limits: Limits
    began: int = 0
    spent: Amounts = NOTHING
    holds: dict[str, Hold] = {}
    raised: dict[str, float] = {}
    raises: int = 0
    closed: bool = False

    def limit(self, unit: Unit) -> float | None:
        """What may be spent in all, with what was granted later."""
        given: float | None = getattr(self.limits, unit)
        return None if given is None else given + self.raised.get(unit, 0)

    def spent_of(self, unit: Unit, now: int) -> float:
        """How much of it is spent."""
        spent: float = (now - self.began) / 1000 if unit == "seconds" else getattr(self.spent, unit)
        return spent

    def held_of(self, unit: Unit, now: int) -> float:
        """How much of it calls hold that may still run."""
        if unit == "seconds":
            return 0
        held: float = sum(getattr(hold.amounts, unit) for hold in self.holds.values() if hold.until > now)
        return held

    def reached(self, now: int) -> Reached | None:
        """The first limit that is reached."""
        for unit in UNITS:
            limit = self.limit(unit)
            if limit is None:
                continue
            spent = self.spent_of(unit, now)
            if spent >= limit:
                return Reached(unit, spent, limit)
        return None

    def full(self) -> bool:
        """True when calls that run may use up what is left: whether they do is known when they end."""
        if not self.holds:
            return False
        may = self.spent
        for hold in self.holds.values():
            may = may.plus(hold.amounts)
        limits = ((unit, self.limit(unit)) for unit in UNITS if unit != "seconds")
        return any(limit is not None and getattr(may, unit) >= limit for unit, limit in limits)

    def expire(self, now: int) -> None:
        """Forget the holds of calls whose end was never told."""
        self.holds = {key: hold for key, hold in self.holds.items() if hold.until > now}

    def seconds_left(self, now: int) -> float | None:
        """Until the time is over."""
        limit = self.limit("seconds")
        return None if limit is None else max(0.0, limit - (now - self.began) / 1000)

    def grow(self, by: dict[str, float]) -> None:
        """A person granted more."""
        self.raised = {unit: self.raised.get(unit, 0) + by.get(unit, 0) for unit in {*self.raised, *by}}
        self.raises += 1


def granted(limits: Limits, payload: Any) -> dict[str, float]:
    """By how much an approval raises the limits: what its payload says for each unit, else as much again."""
    said = payload if isinstance(payload, dict) else {}
    by: dict[str, float] = {
        unit: float(said[unit])
        for unit in UNITS
        if isinstance(said.get(unit), int | float) and not isinstance(said.get(unit), bool) and said[unit] > 0
    }
    same: dict[str, float] = {u: given for u in UNITS if (given := getattr(limits, u)) is not None}
    return by or same


def read(value: bytes) -> Book | None:
    """A book as it is stored; None when another version wrote it otherwise."""
    try:
        return msgspec.json.decode(value, type=Book)
    except msgspec.MsgspecError:
        return None
