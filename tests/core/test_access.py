"""Tokens with roles, and what each route asks for."""

from __future__ import annotations

import pytest

from agentdur.core.access import Access, Role, Rule, read_tokens, written_token
from agentdur.core.errors import BadAccess, NotAllowed, NotSignedIn, PayloadsHidden

TOKENS = {role: f"adt_{role}_0123456789abcdef" for role in ("viewer", "operator", "admin")}
FILE = "\n".join(written_token(f"{role}-one", role, token) for role, token in TOKENS.items())
RULES = (
    Rule("GET", "/health", Role.PUBLIC), Rule("GET", "/runs", Role.VIEWER, "marked"),
    Rule("GET", "/runs/{id}", Role.VIEWER), Rule("GET", "/runs/secret", Role.ADMIN, "whole"),
    Rule("POST", "/runs/{id}/cancel", Role.OPERATOR), Rule("GET", "/notes", Role.VIEWER, "whole"),
    Rule("POST", "/convert/{name:path}", Role.OPERATOR),
)  # fmt: skip
DOOR = Access(lambda: read_tokens(FILE), RULES, Role.OPERATOR)


def bearer(role: str) -> bytes:
    return f"Bearer {TOKENS[role]}".encode()


@pytest.mark.parametrize(("method", "path", "role"), [
    ("GET", "/runs", "viewer"), ("HEAD", "/runs/7", "viewer"), ("POST", "/runs/7/cancel", "operator"),
    ("POST", "/runs/7/cancel", "admin"), ("GET", "/runs/secret", "admin"), ("GET", "/notes", "operator"),
    ("POST", "/convert/a/b", "operator"), ("GET", "/nowhere", "admin"),
])  # fmt: skip
def test_a_role_may_what_is_its_own_and_what_is_below(method: str, path: str, role: str):
    caller = DOOR.admit(method, path, bearer(role)).caller
    assert caller is not None
    assert (caller.name, caller.role) == (f"{role}-one", Role[role.upper()])


@pytest.mark.parametrize(("method", "path", "role", "error"), [
    ("POST", "/runs/7/cancel", "viewer", NotAllowed), ("GET", "/runs/secret", "operator", NotAllowed),
    ("GET", "/nowhere", "operator", NotAllowed), ("DELETE", "/runs/7", "operator", NotAllowed),
    ("GET", "/runs/7/cancel", "operator", NotAllowed), ("GET", "/runs/7/", "operator", NotAllowed),
    ("OPTIONS", "/health", "operator", NotAllowed), ("GET", "/notes", "viewer", PayloadsHidden),
])  # fmt: skip
def test_what_is_more_or_what_nobody_declared_is_refused(
    method: str, path: str, role: str, error: type[Exception]
):
    with pytest.raises(error, match=f"{role}-one is {role}"):
        DOOR.admit(method, path, bearer(role))


@pytest.mark.parametrize("said", [
    None, b"", b"Bearer", b"Bearer ", b"Bearer nonsense", b"Basic " + TOKENS["admin"].encode(),
    bearer("admin") + b"x", bearer("admin")[:-1], b"Bearer \xff\xfe",
])  # fmt: skip
def test_who_shows_no_token_that_is_known_is_asked_for_one(said: bytes | None):
    assert DOOR.admit("GET", "/health", said).caller is None
    with pytest.raises(NotSignedIn):
        DOOR.admit("GET", "/runs", said)


def test_payloads_are_hidden_from_the_roles_below():
    assert DOOR.admit("GET", "/runs", bearer("viewer")).hidden
    assert not DOOR.admit("GET", "/runs", bearer("operator")).hidden
    nobody = Access(lambda: read_tokens(FILE), RULES, Role.NOBODY)
    assert nobody.admit("GET", "/runs", bearer("admin")).hidden
    with pytest.raises(PayloadsHidden):
        nobody.admit("GET", "/notes", bearer("admin"))


def test_a_file_keeps_hashes_and_no_token():
    assert [(name, role) for name, role, _ in read_tokens(FILE).known] == [
        ("viewer-one", Role.VIEWER), ("operator-one", Role.OPERATOR), ("admin-one", Role.ADMIN),
    ]  # fmt: skip
    assert not any(token in FILE for token in TOKENS.values())
    assert read_tokens("").known == ()


def test_a_token_that_could_be_guessed_from_its_hash_lets_nobody_in():
    assert read_tokens(written_token("weak", "admin", "secret")).caller("secret") is None


HASH = f"hash = 'sha256:{'0' * 64}'"


@pytest.mark.parametrize(("text", "why"), [
    ("tokens = ", "no TOML"), ("token = 1", "'token'"), ("tokens = 1", "only tokens"),
    ("[tokens]\na = 1", "tokens.a"),
    (f"[tokens.a]\nrole = 'root'\n{HASH}", "viewer, operator, admin"),
    (f"[tokens.a]\nrole = 'nobody'\n{HASH}", "the role"), (f"[tokens.a]\n{HASH}", "role and hash"),
    ("[tokens.a]\nrole = 'admin'\nhash = 'plain'", "64 hexadecimal"),
    (f"[tokens.a]\nrole = 'admin'\nsee = 1\n{HASH}", "nothing else"),
])  # fmt: skip
def test_a_file_that_does_not_fit_says_where(text: str, why: str):
    with pytest.raises(BadAccess, match=why):
        read_tokens(text)
