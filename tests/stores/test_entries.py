"""The coding of journal entries: nothing is lost, and what was written once is read for ever."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NewType, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentdur.core.errors import StoreTooNew
from agentdur.core.journal import Call, Completion, CompletionOf, Entry, Input, OneWayCall, Run, Success
from agentdur.core.ports import Writes
from agentdur.stores import SqliteStore
from agentdur.stores.entries import WRITERS, Stored, read_entry
from tests.stores.homes import commit
from tests.stores.samples import ENTRIES
from tests.support.examples import examples

GOLDEN = Path(__file__).parent / "journal_format.json"
KINDS = [*get_args(Entry)]


def written(entry: Entry) -> Stored:
    """The columns of an entry."""
    *columns, detail = WRITERS[type(entry)](entry)
    return Stored(*columns, None if detail is None else msgspec.json.encode(detail).decode())


def golden() -> dict[str, Stored]:
    """What the columns were when the format was released; payloads are written as Latin-1 text."""
    rows = json.loads(GOLDEN.read_text("utf-8"))
    return {
        name: Stored(
            **row | {"payload": None if row["payload"] is None else row["payload"].encode("latin-1")}
        )
        for name, row in rows.items()
    }


@pytest.mark.parametrize("name", ENTRIES)
def test_the_format_is_what_was_promised(name: str) -> None:
    """Red here means that released journals would be read differently: change the code, not the file."""
    assert written(ENTRIES[name]) == golden()[name]
    assert read_entry(golden()[name]) == ENTRIES[name]


def test_every_kind_has_its_promise() -> None:
    kinds = {kind.__name__ for kind in KINDS} - {"Completion"}
    kinds |= {f"{of}Completion" for of in get_args(CompletionOf)}
    assert {row.kind for row in golden().values()} == kinds
    assert golden().keys() == ENTRIES.keys()
    assert all(name.split(",")[0] == row.kind for name, row in golden().items())


def anything(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of an annotation, as far as entries use them."""
    origin, parts = get_origin(kind), get_args(kind)
    if isinstance(kind, NewType):
        return st.text()
    if origin in (Union, types.UnionType):
        return st.one_of([anything(part) for part in parts])
    if origin is Literal:
        return st.sampled_from(parts)
    if origin is tuple:
        if parts[-1] is Ellipsis:
            return st.lists(anything(parts[0]), max_size=3).map(tuple)
        return st.tuples(*map(anything, parts))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return st.builds(kind, **{name: anything(hint) for name, hint in get_type_hints(kind).items()})
    simple = {str: st.text(), bytes: st.binary(), int: st.integers(0, 2**63 - 1), type(None): st.none()}
    return simple[kind]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
@settings(max_examples=examples(60), deadline=None)
def test_any_entry_is_read_as_it_was(kind: type[Entry], data: st.DataObject) -> None:
    entry = data.draw(anything(kind))
    assert read_entry(written(entry)) == entry


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteStore]:
    """One file for all journals: making it costs more than they do."""
    made = SqliteStore(str(tmp_path_factory.mktemp("entries") / "agentdur.db"))
    made.open()
    yield made
    made.close()


@given(entries=st.lists(st.one_of([anything(kind) for kind in KINDS]), max_size=8))
@settings(max_examples=examples(40), deadline=None)
def test_any_journal_is_read_as_it_was(store: SqliteStore, entries: list[Entry]) -> None:
    """Through a file: what SQLite makes of JSON text and slices is part of the coding."""
    seq, writes = store.next_seq(), Writes()
    writes.journal = [(seq, n, entry, n) for n, entry in enumerate(entries)]
    commit(store, writes)
    assert store.journal(seq) == list(enumerate(entries))


def test_a_field_that_a_newer_version_added_is_passed_over() -> None:
    detail = '{"service":"Mail","handler":"send","id_completion":1,"priority":{"level":3}}'
    row = Stored("OneWayCall", "", "", None, b"", detail)
    assert read_entry(row) == OneWayCall(service="Mail", handler="send", id_completion=1)
    done = Stored("RunCompletion", None, None, 3, b"1", '{"cost":0.1}')
    assert read_entry(done) == Completion(3, "Run", Success(b"1"))


def test_a_field_that_an_older_version_did_not_have_has_its_default() -> None:
    row = Stored("Call", None, None, 2, b"", '{"service":"Mail","handler":"send","id_completion":1}')
    assert read_entry(row) == Call(service="Mail", handler="send", id_completion=1, completion=2)
    assert read_entry(Stored("Input", None, None, None, b"", None)) == Input()


def test_a_kind_that_only_a_newer_version_has_is_refused() -> None:
    with pytest.raises(StoreTooNew, match="Teleport"):
        read_entry(Stored("Teleport", "", "", 1, None, None))


def test_a_payload_is_stored_as_it_came() -> None:
    """Not inside JSON, not encoded: a step of a megabyte costs a megabyte."""
    payload = bytes(range(256))
    for entry in (
        Input(value=payload),
        Call(service="a", handler="b", parameter=payload, id_completion=1, completion=2),
        Completion(1, "Run", Success(payload)),
    ):
        assert written(entry).payload == payload
    assert written(Run(completion=1)).detail is None
