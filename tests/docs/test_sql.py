"""The questions in SQL that the documents show can be asked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agentdur.core.query import Question
from agentdur.stores import MemoryStore

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```sql\n(.*?)^```", re.DOTALL | re.MULTILINE)
SHOWN = [
    (page.name, sql)
    for page in sorted((ROOT / "docs").rglob("*.md"))
    for block in _BLOCK.findall(page.read_text("utf-8"))
    for sql in block.split("\n\n")
]


def test_there_are_some():
    assert len(SHOWN) > 2


@pytest.mark.parametrize(("page", "sql"), SHOWN, ids=[f"{page}-{n}" for n, (page, _) in enumerate(SHOWN)])
def test_what_is_shown_is_answered(page: str, sql: str):
    assert MemoryStore().query(Question(sql=sql, now=1_790_000_000_000)).rows == []
