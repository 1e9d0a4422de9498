"""Looking for text in the stored journals, newest first, for as long as somebody wants to wait.

Rules of this file:
1. It reads a page of invocations at a time, on a connection of its own: no snapshot stays open for long, and
   the writer never waits.
2. A page takes about PAGE_SECONDS, so that the end of the time is noticed. One that takes much longer is
   given up and read again in smaller ones; a single invocation is looked at however long it takes.
3. SQLite compares, and gives back only what fits: the interpreter is left to the engine meanwhile.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from agentdur.core.errors import NotRunning
from agentdur.core.search import Findings, Match, Place, Search, Spot
from agentdur.stores.sqlite_reads import INTERNAL

PAGE_SECONDS = 0.03
PAGE_SECONDS_MAX = 0.3
PAGE_MIN, PAGE_MAX = 16, 2000
"""Invocations of the first page, and of the largest one."""
CACHE_KIB = 16 * 1024
STEPS_BETWEEN_LOOKS = 20_000
BEFORE, AROUND = 60, 200
"""Characters of an excerpt before the text, and in all beside it."""

_PAGE = """
    select seq, id, created_at from invocation
    where {which} and seq < :after order by seq desc limit :size"""
_ALL = f"not ({INTERNAL})"
_ONE = "service = :service"

_TEXT = "cast(coalesce(j.payload, j.detail) as text)"
_JOURNAL = """
    select j.seq, case when j.kind = 'Input' then 'input' when j.detail like '%"model\\%' then 'answer'
        else 'result' end as place, min(j.idx), count(*), {excerpt}
    from json_each(:page) p cross join journal j on j.seq = p.value
    where j.kind in ({kinds}) and ({fits}) group by 1, 2"""
_ENDS = """
    select i.seq, 'output', null, 1, {excerpt}
    from json_each(:page) p cross join invocation i on i.seq = p.value where ({fits})"""
_ENDED = "cast(coalesce(i.result, i.failure) as text)"
# Whether a message fits is seen where its parent is read: each is looked up once for each invocation.
_TOLD = """
    with recursive head(seq, hash) as (
        select j.seq, json_extract(json_extract(j.detail, '$.meta'), '$.conversation')
        from json_each(:page) p cross join journal j on j.seq = p.value
        where j.kind = 'RunCompletion' and j.detail like '%"conversation\\%'),
    told(seq, hash, parent, fits) as (
        select h.seq, m.hash, m.parent, ({fits}) from head h join message m on m.hash = h.hash
        union
        select t.seq, m.hash, m.parent, ({fits}) from told t join message m on m.hash = t.parent)
    select f.seq, 'told', null, f.n, (select {excerpt} from message m where m.hash = f.hash)
    from (select seq, min(hash) as hash, count(*) as n from told where fits group by seq) f"""
_SAID = "cast(m.value as text)"
_KINDS: dict[Place, tuple[str, ...]] = {
    "input": ("Input",), "answer": ("RunCompletion",),
    "result": ("RunCompletion", "CallCompletion", "GetPromiseCompletion", "AttachCompletion", "Signal"),
}  # fmt: skip


def search(connection: sqlite3.Connection, what: Search) -> Findings:
    """What fits. NotRunning when it was stopped."""
    connection.text_factory = _readable
    connection.execute(f"pragma cache_size = -{CACHE_KIB}")
    deadline = time.monotonic() + what.seconds
    matches: list[Match] = []
    after, looked_at, back_to, size = what.after or 2**62, 0, None, PAGE_MIN
    statements = Statements(what)
    while True:
        began = time.monotonic()
        page = connection.execute(statements.page, statements.place(after, size)).fetchall()
        if not page:
            return Findings(matches=matches, looked_at=looked_at, back_to=back_to)
        try:
            found = _look(connection, statements, [seq for seq, _, _ in page], what)
        except _TooLong:
            size = max(1, len(page) // 8)
            continue
        for number, (seq, id, created_at) in enumerate(page, 1):
            after, back_to = seq, created_at
            if spots := found.get(seq):
                matches.append(Match(id, spots))
            if len(matches) == what.limit:
                return Findings(
                    matches=matches, looked_at=looked_at + number, back_to=back_to, after=after, cut="limit"
                )
        looked_at += len(page)
        now = time.monotonic()
        if now >= deadline:
            return Findings(matches=matches, looked_at=looked_at, back_to=back_to, after=after, cut="time")
        size = min(PAGE_MAX, size * 2) if now - began < PAGE_SECONDS else max(1, size // 2)


class _TooLong(Exception):
    """A page that is to be read in parts."""


def _look(
    connection: sqlite3.Connection, statements: Statements, seqs: list[int], what: Search
) -> dict[int, list[Spot]]:
    """Where it is in these, by their number."""
    until = time.monotonic() + PAGE_SECONDS_MAX if len(seqs) > 1 else None

    def over() -> bool:
        return what.stopped() or (until is not None and time.monotonic() > until)

    connection.set_progress_handler(over, STEPS_BETWEEN_LOOKS)
    try:
        found: dict[int, list[Spot]] = defaultdict(list)
        for seq, spot in _spots(connection, statements, json.dumps(seqs)):
            found[seq].append(spot)
        return found
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        if what.stopped():
            raise NotRunning("the search was ended, as nobody waits for it or the engine stops") from error
        raise _TooLong from error
    finally:
        connection.set_progress_handler(None, 0)


def _spots(connection: sqlite3.Connection, statements: Statements, page: str) -> Iterator[tuple[int, Spot]]:
    for statement in statements.looks:
        for seq, place, index, count, excerpt in connection.execute(
            statement, {"page": page, **statements.words}
        ):
            if place in statements.places:
                yield seq, Spot(place=place, index=index, count=count, excerpt=excerpt)


class Statements:
    """What SQLite is asked, for one search."""

    def __init__(self, what: Search) -> None:
        spelled = spellings(what.text)
        self.places = frozenset(what.places)
        self.words = {f"w{n}": one.lower() for n, one in enumerate(spelled)}
        self.words |= {f"l{n}": f"%{_escaped(one)}%" for n, one in enumerate(spelled)}
        self.page = _PAGE.format(which=_ALL if what.service is None else _ONE)
        self.looks = list(self._looks(len(spelled)))
        self._service = what.service

    def place(self, after: int, size: int) -> dict[str, Any]:
        """Where the page begins."""
        return {"after": after, "size": size} | ({} if self._service is None else {"service": self._service})

    def _looks(self, number: int) -> Iterator[str]:
        kinds = {kind for place in self.places for kind in _KINDS.get(place, ())}
        if kinds:
            listed = ", ".join(f"'{kind}'" for kind in sorted(kinds))
            yield _JOURNAL.format(kinds=listed, **_fitting(_TEXT, number))
        if "told" in self.places:
            yield _TOLD.format(**_fitting(_SAID, number))
        if "output" in self.places:
            yield _ENDS.format(**_fitting(_ENDED, number))


def _fitting(text: str, number: int) -> dict[str, str]:
    fits = " or ".join(f"{text} like :l{n} escape '\\'" for n in range(number))
    at = ", ".join(f"nullif(instr(lower({text}), :w{n}), 0)" for n in range(number))
    excerpt = f"substr({text}, max(coalesce({at}, 1, 1) - {BEFORE}, 1), {AROUND} + length(:w0))"
    return {"fits": fits, "excerpt": excerpt}


def spellings(text: str) -> list[str]:
    """The text, and as JSON writes it: with and without other letters than ASCII, and as text within text."""
    plain = json.dumps(text, ensure_ascii=False)[1:-1]
    ascii_only = json.dumps(text)[1:-1]
    within = json.dumps(plain, ensure_ascii=False)[1:-1]
    return list(dict.fromkeys((text, plain, ascii_only, within)))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _readable(text: bytes) -> str:
    return text.decode("utf-8", "replace")
