"""Looking for text: the same in every store, newest first, and only so long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentdur.core.errors import NotRunning
from agentdur.core.journal import Completion, Entry, Failure, Input, Result, Run, Signal, Success
from agentdur.core.ports import Saved, Writes
from agentdur.core.search import Findings, Search
from agentdur.core.state import Accepted, Head, Status
from agentdur.core.target import Target
from agentdur.llm.conversation import chain
from agentdur.stores import SqliteStore
from agentdur.stores import search as looking
from tests.stores.homes import Home, commit
from tests.stores.samples import T0


class Library:
    """Runs by name; later ones are newer."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.names: list[str] = []

    def run(self, name: str, *entries: Entry, result: Result | None = None, service: str = "Desk") -> None:
        """A run with this journal, which has ended when it has a result."""
        self.names.append(name)
        seq, writes = len(self.names), Writes()
        status = Status.INVOKED if result is None else Status.COMPLETED
        head = Head(status=status, attempt=1, modified_at=T0, result=result)
        spec = Accepted(id=_id(seq), target=Target(service, "ask"), created_at=T0 + seq)
        writes.invocations[seq] = Saved(seq, spec, head, True, True, None, None)
        writes.journal = [(seq, index, entry, T0) for index, entry in enumerate(entries)]
        commit(self.home.store, writes)

    def look(self, text: str, **how: Any) -> Findings:
        return self.home.store.search(Search(text=text, **how))

    def found(self, text: str, **how: Any) -> dict[str, dict[str, Any]]:
        """By run: by place, the entry and how often."""
        return {
            self.names[int(match.id[5:]) - 1]: {one.place: (one.index, one.count) for one in match.spots}
            for match in self.look(text, **how).matches
        }


def _id(seq: int) -> Any:
    return f"inv_1{seq:08}"


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _answer(text: str, conversation: str = "") -> Completion:
    note = {"model": "m-1", "conversation": conversation}
    return Completion(1, "Run", Success(_json({"message": {"content": text}})), _json(note).decode())


@pytest.fixture
def library(home: Home) -> Library:
    return Library(home)


def test_each_place_is_told_apart(library: Library) -> None:
    library.run("given", Input(value=b'"a Heron"'))
    library.run("answered", Input(value=b"1"), result=Success(b'{"bird": "heron"}'))
    library.run("failed", Input(value=b"1"), result=Failure(500, "no heron was seen"))
    library.run("said", Input(value=b"1"), Run(name="llm", completion=1), _answer("It is a HERON."))
    library.run(
        "brought", Input(value=b"1"), Run(name="look", completion=1),
        Completion(1, "Run", Success(b'"one heron"')), Signal("seen", Success(b'"a second heron"')),
    )  # fmt: skip
    library.run("promised", Input(value=b"1"), Completion(1, "GetPromise", Success(b'"heron"')))
    library.run("refused", Input(value=b"1"), Completion(1, "Call", Failure(404, "heron not found")))
    library.run("other", Input(value=b'"a stork"'), result=Success(b"{}"))
    everywhere = {
        "refused": {"result": (1, 1)}, "promised": {"result": (1, 1)}, "brought": {"result": (2, 2)},
        "said": {"answer": (2, 1)}, "failed": {"output": (None, 1)}, "answered": {"output": (None, 1)},
        "given": {"input": (0, 1)},
    }  # fmt: skip
    assert library.found("heron") == everywhere
    assert list(library.found("heron")) == list(everywhere), "the newest come first"
    assert library.found("heron", places=("input", "answer")) == {
        "said": {"answer": (2, 1)}, "given": {"input": (0, 1)},
    }  # fmt: skip


def test_what_models_were_told_is_found_where_it_was_told(library: Library) -> None:
    """Both steps of a run were told the prompt: it is one message. Another run was not told the answer."""
    first = chain(
        [{"role": "system", "content": "You watch cranes"}, {"role": "user", "content": "How many?"}]
    )
    second = (*first, *chain([{"role": "assistant", "content": "Seven grebes"}]))
    second = (*second[:2], msgspec.structs.replace(second[2], parent=second[1].hash))
    writes = Writes()
    writes.messages = {one.hash: (one.parent, one.value, T0) for one in second}
    commit(library.home.store, writes)
    library.run("short", Input(), _answer("none", first[-1].hash))
    library.run("long", Input(), _answer("wait", first[-1].hash), _answer("none", second[-1].hash))
    assert library.found("cranes") == {"long": {"told": (None, 1)}, "short": {"told": (None, 1)}}
    assert library.found("grebes") == {"long": {"told": (None, 1)}}
    (match,) = library.look("grebes").matches
    assert "Seven grebes" in match.spots[0].excerpt


@pytest.mark.parametrize(
    "text", ['say "hi"', "two\nlines", "crème brûlée", "100%", "snake_case", "back\\slash", "日本"]
)
def test_text_is_found_as_it_reads_however_json_spells_it(library: Library, text: str) -> None:
    library.run("none", Input(value=_json("say hi, two lines, creme, 1000, snakeXcase, back/slash")))
    library.run("plain", Input(value=text.encode()))
    library.run("json", Input(value=_json(text)))
    library.run("ascii", Input(value=ascii_json(text)))
    library.run("within", Input(value=_json({"arguments": _json({"a": text}).decode()})))
    assert list(library.found(text)) == ["within", "ascii", "json", "plain"]


def ascii_json(text: str) -> bytes:
    return b'"' + "".join(_ascii(one) for one in text).encode() + b'"'


def _ascii(letter: str) -> str:
    return _json(letter).decode()[1:-1] if ord(letter) < 128 else f"\\u{ord(letter):04x}"


def test_the_words_around_it_are_told_and_no_more(library: Library) -> None:
    library.run("long", Input(value=b'"' + b"x " * 5000 + b"the needle itself" + b" y" * 5000 + b'"'))
    (match,) = library.look("NEEDLE").matches
    excerpt = match.spots[0].excerpt
    assert "x the needle itself y" in excerpt and len(excerpt) < 250


def test_bytes_that_are_no_text_are_no_trouble(library: Library) -> None:
    library.run("binary", Input(value=b"\xff\xfe before needle after \xff"))
    assert "before needle after" in library.look("needle").matches[0].spots[0].excerpt


def test_a_search_goes_on_where_it_ended(library: Library) -> None:
    for n in range(7):
        library.run(f"run {n}", Input(value=b'"needle"' if n % 2 == 0 else b'"hay"'))
    first = library.look("needle", limit=2)
    assert [match.id for match in first.matches] == [_id(7), _id(5)]
    assert (first.cut, first.looked_at, first.back_to) == ("limit", 3, T0 + 5)
    rest = library.look("needle", limit=3, after=first.after)
    assert [match.id for match in rest.matches] == [_id(3), _id(1)]
    assert (rest.cut, rest.after, rest.looked_at) == (None, None, 4)


def test_one_service_is_looked_through_and_our_own_only_by_name(library: Library) -> None:
    for service in ("Desk", "Shop", "agentdur.Approval", "Shop"):
        library.run(f"{service} {len(library.names)}", Input(value=b'"needle"'), service=service)
    assert list(library.found("needle")) == ["Shop 3", "Shop 1", "Desk 0"]
    assert list(library.found("needle", service="Shop")) == ["Shop 3", "Shop 1"]
    assert list(library.found("needle", service="agentdur.Approval")) == ["agentdur.Approval 2"]
    assert library.look("needle", service="None").looked_at == 0


def test_when_its_time_is_over_it_says_how_far_it_came(library: Library) -> None:
    for n in range(50):
        library.run(f"run {n}", Input(value=b'"hay"'))
    after, steps, looked = None, 0, 0
    while True:
        findings = library.look("needle", seconds=0, after=after)
        steps, looked = steps + 1, looked + findings.looked_at
        if findings.after is None:
            break
        assert findings.cut == "time"
        after = findings.after
    assert (steps > 2, looked) == (True, 50)


def test_who_is_told_to_stop_stops(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "STEPS_BETWEEN_LOOKS", 10)
    library.run("run", Input(value=b'"hay"' * 1000))
    with pytest.raises(NotRunning):
        library.look("needle", stopped=lambda: True)


def test_nobody_waits_for_a_search(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit while it reads: it is asked whether it shall stop in the middle of its work."""
    monkeypatch.setattr(looking, "STEPS_BETWEEN_LOOKS", 10)
    library.run("before", Input(value=b'"needle"'))

    def stopped() -> bool:
        if len(library.names) == 1:
            library.run("meanwhile", Input(value=b'"needle"'))
        return False

    assert len(library.look("needle", stopped=stopped).matches) == 1
    assert list(library.found("needle")) == ["meanwhile", "before"]


def test_a_page_that_takes_long_is_read_in_parts(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """And in the end an invocation by itself is looked at, however long that takes."""
    monkeypatch.setattr(looking, "STEPS_BETWEEN_LOOKS", 10)
    monkeypatch.setattr(looking, "PAGE_SECONDS_MAX", -1.0)
    for n in range(20):
        library.run(f"run {n}", Input(value=b'"needle"' if n == 0 else b'"hay"'))
    findings = library.look("needle")
    assert [match.id for match in findings.matches] == [_id(1)]
    assert findings.looked_at == 20


def test_pages_come_in_the_order_of_an_index(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "a.db"))
    store.open()
    try:
        for service in (None, "Desk"):
            statements = looking.Statements(Search(text="x", service=service))
            plan = store._reader.execute(  # type: ignore[union-attr]  # it is open
                f"explain query plan {statements.page}", statements.place(9, 5)
            ).fetchall()
            assert not [step for *_, step in plan if "TEMP B-TREE" in step or step == "SCAN invocation"], plan
    finally:
        store.close()
