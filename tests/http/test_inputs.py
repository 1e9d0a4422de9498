"""Input rules: which body and content type a handler takes, and what its answer is labelled with."""

from __future__ import annotations

import pytest

from agentdur.core.catalog import InputRule
from agentdur.ingress.inputs import input_check
from tests.http.wire import Address
from tests.http.world import INPUT_RULES

EMPTY_TYPE, EMPTY_BODY = "Empty content-type", "Empty body not allowed"
NOT_VOID = "Expected body and content-type to be empty, but wasn't with content-type"
MISMATCH = "Content-type '"

CASES = {  # (content type, body)
    "nothing": (None, b""),
    "untyped": (None, b"x"),
    "empty json": ("application/json", b""),
    "json": ("application/json", b"1"),
    "shouted": ("APPLICATION/JSON", b"1"),
    "charset": ("application/json ; charset=utf-8", b"1"),
    "text": ("text/plain", b"1"),
    "empty text": ("text/plain", b""),
    "blank type": ("", b"1"),
    "weird": ("weird", b"1"),
}
# One column per case, in the order above: "." is accepted.
T, B, V, M = EMPTY_TYPE, EMPTY_BODY, NOT_VOID, MISMATCH
EXPECTED = {
    "void": [".", V, V, V, V, V, V, V, V, V],
    "absent": [".", T, ".", ".", ".", ".", ".", ".", ".", "."],
    "json_optional": [".", T, B, ".", M, ".", M, M, M, M],
    "json_required": [T, T, B, ".", M, ".", M, M, M, M],
    "typed_optional": [".", T, ".", ".", M, ".", M, M, M, M],
    "typed_required": [T, T, ".", ".", M, ".", M, M, M, M],
    "any_optional": [".", T, ".", ".", ".", ".", ".", ".", ".", "."],
    "any_required": [T, T, ".", ".", ".", ".", ".", ".", ".", "."],
    "any_schema": [T, T, B, ".", ".", ".", ".", B, ".", "."],
    "text": [".", T, M, M, M, M, ".", ".", M, M],
}
TABLE = [
    pytest.param(rule, *CASES[case], answer, id=f"{rule}-{case}")
    for rule, answers in EXPECTED.items()
    for case, answer in zip(CASES, answers, strict=True)
]


@pytest.mark.parametrize(("rule", "content_type", "body", "answer"), TABLE)
def test_a_rule_accepts_or_says_why_not(
    rule: str, content_type: str | None, body: bytes, answer: str
) -> None:
    problem = input_check(INPUT_RULES[rule])(None if content_type is None else content_type.encode(), body)
    assert (problem or ".").startswith(answer)


@pytest.mark.parametrize(("rule", "content_type", "body", "answer"), TABLE)
def test_the_ingress_applies_the_rule(
    ingress: Address, rule: str, content_type: str | None, body: bytes, answer: str
) -> None:
    headers = [] if content_type is None else [("content-type", content_type)]
    response = ingress.ask("POST", f"/Rules/{rule}/send", body, headers)
    if answer == ".":
        assert response.status == 202
    else:
        assert response.status == 400
        assert response.json()["message"].startswith(f"input validation error: {answer}")


def test_a_mismatch_names_both_types() -> None:
    problem = input_check(InputRule(content_type="text/*"))(b"application/json", b"1")
    assert problem == "Content-type 'application/json' does not match 'text/*'"


@pytest.mark.parametrize(
    ("handler", "body", "content_type"),
    [
        ("plain", b"1", "application/json"),
        ("plain", b"", None),
        ("text_out", b"1", "text/plain"),
        ("text_out", b"", None),
        ("typed_if_empty", b"", "text/plain"),
        ("untyped", b"1", None),
    ],
)
def test_the_answers_content_type_is_the_handlers(
    ingress: Address, handler: str, body: bytes, content_type: str | None
) -> None:
    sent = ingress.ask("POST", f"/Out/{handler}", body, [("content-type", "a/b"), ("accept", "image/png")])
    assert (sent.status, sent.headers.get("content-type")) == (200, content_type)
