"""Who may look and act: tokens with roles, and the role that each route asks for.

Rules of this file:
1. A route that nobody has declared is the admin's alone; where several declarations fit, the strictest
   counts.
2. Tokens are known by their hashes only. Each one that is shown is compared with all of them, and a
   comparison takes as long whatever it finds.
3. Without tokens nobody is asked, as before there were any.
"""

from __future__ import annotations

import hmac
import re
import tomllib
from collections.abc import Callable, Iterable
from enum import IntEnum
from hashlib import sha256
from typing import Any, Literal, NamedTuple, get_args

from msgspec import Struct

from agentdur.core.errors import BadAccess, NotAllowed, NotSignedIn, PayloadsHidden

CALLER = "agentdur.caller"
"""Where a request's scope says who asks, when that is known."""
TOKEN_PREFIX = "adt_"
TOKEN_CHARS_MIN = 20
"""Shorter ones could be guessed from their hash, so they are not made and not accepted."""
HASH_PREFIX = "sha256:"


class Role(IntEnum):
    """Each may what those before it may."""

    PUBLIC = 0
    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3
    NOBODY = 4


class Caller(Struct, frozen=True):
    """Who asks."""

    name: str
    role: Role


Shows = Literal["nothing", "marked", "whole"]


class Rule(NamedTuple):
    """What a route asks for, and what it shows of what handlers were given or gave: `marked` has markers in
    its place for who may not see it, `whole` is not for them at all."""

    method: str
    path: str
    role: Role
    shows: Shows = "nothing"


_SHOWS: tuple[Shows, ...] = get_args(Shows)


class Admitted(NamedTuple):
    """Who asks, None for who need not say; and whether payloads are to be hidden from him."""

    caller: Caller | None
    hidden: bool


class Tokens(Struct, frozen=True):
    """(name, role, SHA-256 of the token)."""

    known: tuple[tuple[str, Role, bytes], ...] = ()

    def caller(self, token: str) -> Caller | None:
        """Whose token this is."""
        found = self.caller_of(sha256(token.encode("utf-8", "replace")).digest())
        return found if len(token) >= TOKEN_CHARS_MIN else None

    def caller_of(self, digest: bytes) -> Caller | None:
        """Whose token has this hash."""
        found = None
        for name, role, known in self.known:
            if hmac.compare_digest(digest, known):
                found = Caller(name, role)
        return found


def _no_session(session: str) -> bytes | None:
    return None


class Access:
    """The door of a port. `tokens` is asked each time, so that a token can be taken away; `sessions` knows
    the hash of the token that a session began with."""

    def __init__(
        self, tokens: Callable[[], Tokens], rules: Iterable[Rule], payloads: Role,
        sessions: Callable[[str], bytes | None] = _no_session,
    ) -> None:  # fmt: skip
        self._tokens, self._payloads, self._sessions = tokens, payloads, sessions
        self._rules = [(rule, pattern_of(rule.path)) for rule in rules]

    def rule_of(self, method: str, path: str) -> Rule:
        """What is asked for there: the strictest of what fits."""
        wanted = "GET" if method == "HEAD" else method
        found = [rule for rule, fits in self._rules if rule.method == wanted and fits.fullmatch(path)]
        if not found:
            return Rule(method, path, Role.ADMIN, "whole")
        shows = max((rule.shows for rule in found), key=_SHOWS.index)
        return Rule(method, path, max(rule.role for rule in found), shows)

    def caller(self, token: str) -> Caller | None:
        """Whose token this is."""
        return self._tokens().caller(token)

    def shows_payloads(self, caller: Caller) -> bool:
        """Whether he sees what handlers were given and gave."""
        return caller.role >= self._payloads

    def admit(
        self, method: str, path: str, authorization: bytes | None, session: str | None = None
    ) -> Admitted:
        """Raises NotSignedIn, NotAllowed and PayloadsHidden. A token counts before a session."""
        caller = self.asks(authorization, session)
        return Admitted(caller, self.hides(method, path, caller, showed=authorization is not None))

    def hides(self, method: str, path: str, caller: Caller | None, *, showed: bool) -> bool:
        """Whether payloads are hidden from who is let in; the same is raised. `showed`: some token."""
        rule = self.rule_of(method, path)
        if rule.role is Role.PUBLIC:
            return False
        if caller is None:
            raise NotSignedIn("the token is not known" if showed else "no token")
        if caller.role < rule.role:
            raise NotAllowed(f"{caller.name} is {caller.role.name.lower()}, not {rule.role.name.lower()}")
        hidden = not self.shows_payloads(caller)
        if hidden and rule.shows == "whole":
            raise PayloadsHidden(f"{caller.name} is {caller.role.name.lower()}")
        return hidden and rule.shows == "marked"

    def allows(self, caller: Caller | None, method: str, path: str) -> bool:
        """Whether he is let in there, and sees all that is shown there."""
        try:
            return not self.hides(method, path, caller, showed=caller is not None)
        except (NotSignedIn, NotAllowed, PayloadsHidden):
            return False

    def asks(self, authorization: bytes | None, session: str | None = None) -> Caller | None:
        """Who it is, as far as the request shows."""
        if authorization is not None:
            scheme, _, token = authorization.decode("latin-1").partition(" ")
            return self.caller(token.strip()) if scheme.lower() == "bearer" else None
        digest = None if session is None else self._sessions(session)
        return None if digest is None else self._tokens().caller_of(digest)


def pattern_of(path: str) -> re.Pattern[str]:
    """Of a route's path: `{name}` is a segment, `{name:path}` is any number of them."""
    parts = re.split(r"\{\w+(:path)?\}", path)
    pieces = [re.escape(parts[0])]
    for kind, text in zip(parts[1::2], parts[2::2], strict=True):
        pieces += [".*" if kind else "[^/]+", re.escape(text)]
    return re.compile("".join(pieces), re.DOTALL)


def read_tokens(text: str) -> Tokens:
    """What a file of tokens says: a table `[tokens.NAME]` with `role` and `hash` for each."""
    try:
        written = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadAccess(f"it is no TOML: {error}") from error
    tables = written.pop("tokens", {})
    if written or not isinstance(tables, dict):
        raise BadAccess(f"it has {', '.join(map(repr, written)) or 'no tables'} where only tokens belong")
    return Tokens(tuple(_token(name, table) for name, table in tables.items()))


def _token(name: str, table: Any) -> tuple[str, Role, bytes]:
    if not isinstance(table, dict) or set(table) != {"role", "hash"}:
        raise BadAccess(f"tokens.{name} has to have role and hash, and nothing else")
    role, written = table["role"], table["hash"]
    roles = {one.name.lower(): one for one in (Role.VIEWER, Role.OPERATOR, Role.ADMIN)}
    if not isinstance(role, str) or role not in roles:
        raise BadAccess(f"tokens.{name}: the role is one of {', '.join(roles)}")
    if not isinstance(written, str) or not re.fullmatch(HASH_PREFIX + "[0-9a-f]{64}", written):
        raise BadAccess(f"tokens.{name}: the hash is {HASH_PREFIX} and 64 hexadecimal digits")
    return name, roles[role], bytes.fromhex(written.removeprefix(HASH_PREFIX))


def written_token(name: str, role: str, token: str) -> str:
    """The lines of a file for a new token, which is not in them."""
    return f'[tokens.{name}]\nrole = "{role}"\nhash = "{HASH_PREFIX}{sha256(token.encode()).hexdigest()}"\n'
