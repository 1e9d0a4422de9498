"""Values become bytes and come back as what they were."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import pathlib
import uuid
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar

import msgspec
import pydantic.dataclasses
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, Field

from agentdur.core.errors import BadDefinition, BadRequest, NotSerializable
from agentdur.sdk.schema import json_schema
from agentdur.sdk.serde import (
    BytesSerde,
    DefaultingSerde,
    DefaultSerde,
    JsonSerde,
    MsgspecJsonSerde,
    PydanticJsonSerde,
    RequiredSerde,
    Serde,
    serde_for,
)

T = TypeVar("T")


class Connection:
    """No data."""


class Mood(enum.Enum):
    CALM = "calm"


class Person(BaseModel):
    name: str
    born: int | None = None


class Friend(Person):
    since: int = 2000


class Camel(BaseModel):
    first_name: str = Field(alias="firstName")


class Box(BaseModel, Generic[T]):
    content: T


class Ticket(msgspec.Struct):
    number: int
    holder: Person | None = None


@dataclasses.dataclass
class Note:
    at: datetime.datetime
    text: str = ""


@dataclasses.dataclass
class Guests:
    people: list[Person]


@pydantic.dataclasses.dataclass
class Adult:
    age: int = Field(ge=18)


class Row(TypedDict):
    number: int
    text: NotRequired[str]


class Cell(TypedDict):
    owner: Person


class Point(NamedTuple):
    x: int
    y: int


NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)

ROUND_TRIPS = [
    (int, 3), (str, "ü"), (float, 1.5), (bool, True), (bytes, b"\x00\xff"), (Any, {"a": [1, None, "x"]}),
    (list[int], [1, 2]), (dict[str, Any], {"a": [1, None]}), (dict[int, str], {1: "a"}),
    (tuple[int, str], (1, "a")), (set[int], {1, 2}), (int | None, 4), (int | str, "x"),
    (Literal["on", "off"], "off"), (Mood, Mood.CALM), (NOW.__class__, NOW), (datetime.timedelta, NOW - NOW),
    (uuid.UUID, uuid.UUID(int=7)), (decimal.Decimal, decimal.Decimal("1.10")),
    (Person, Person(name="Ada")), (list[Person], [Person(name="Ada")]), (Person | None, Person(name="A")),
    (dict[str, Person], {"k": Person(name="Ada")}), (Box[int], Box[int](content=1)),
    (Camel, Camel(firstName="Ada")), (list[Camel], [Camel(firstName="Ada")]),
    (Ticket, Ticket(1, Person(name="Ada"))), (list[Ticket], [Ticket(1)]),
    (Note, Note(NOW, "x")), (Guests, Guests([Person(name="Ada")])), (Adult, Adult(age=20)),
    (Note | Person, Note(NOW)), (Row, {"number": 1}), (Cell, {"owner": Person(name="Ada")}),
    (Point, Point(1, 2)), (AnyUrl, AnyUrl("http://example.org/")), (complex, 1 + 2j),
    (Annotated[int, Field(gt=2)], 3), (Annotated[int, msgspec.Meta(gt=2)], 3),
]  # fmt: skip


@pytest.mark.parametrize(("type_hint", "value"), ROUND_TRIPS, ids=str)
def test_a_value_comes_back_as_what_it_was(type_hint: Any, value: Any):
    serde = serde_for(type_hint)
    back = serde.deserialize(serde.serialize(value))
    assert (type(back), back) == (type(value), value)


@pytest.mark.parametrize(("type_hint", "value"), ROUND_TRIPS, ids=str)
def test_no_value_is_no_bytes(type_hint: Any, value: Any):
    serde = serde_for(type_hint)
    assert serde.serialize(None) == b""
    assert serde.deserialize(b"") in (None, b"")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_all_of_json_goes_through(value: Any):
    serde = JsonSerde[Any]()
    assert serde.deserialize(serde.serialize(value)) == value


def test_the_same_annotation_has_the_same_serde():
    assert serde_for(list[Person]) is serde_for(list[Person])


def test_annotations_that_cannot_be_hashed_have_one_too():
    serde = serde_for(Annotated[int, Field(json_schema_extra={"a": 1})])
    assert serde.deserialize(b"1") == 1


# Untyped


def test_untyped_values_are_written_whatever_they_are_made_of_and_read_as_plain_data():
    serde = DefaultSerde[Any]()
    written = serde.serialize({"who": Person(name="Ada"), "ticket": Ticket(1), "when": Note(NOW), "in": {1}})
    assert serde.deserialize(written) == {
        "who": {"name": "Ada", "born": None},
        "ticket": {"number": 1, "holder": None},
        "when": {"at": "2026-01-02T03:04:05.000006Z", "text": ""},
        "in": [1],
    }


def test_a_default_serde_can_be_told_its_type():
    untyped = DefaultSerde[Any]()
    typed = untyped.with_maybe_type(Person)
    assert typed.deserialize(b'{"name":"Ada"}') == Person(name="Ada")
    assert untyped.deserialize(b'{"name":"Ada"}') == {"name": "Ada"}


# Models


def test_a_subclass_keeps_its_fields_on_the_way_out():
    assert serde_for(Person).serialize(Friend(name="Ada")) == b'{"name":"Ada","born":null,"since":2000}'


def test_aliases_are_written_and_names_are_understood_too():
    serde = serde_for(Camel)
    assert serde.serialize(Camel(firstName="Ada")) == b'{"firstName":"Ada"}'
    assert serde.deserialize(b'{"first_name":"Ada"}') == Camel(firstName="Ada")


@pytest.mark.filterwarnings("error")
def test_models_built_without_validation_are_written_as_they_are():
    odd = Person.model_construct(name=3)  # type: ignore[arg-type]  # what clients of models do
    assert serde_for(Person).serialize(odd) == b'{"name":3,"born":null}'
    assert serde_for(list[Person]).serialize([odd]) == b'[{"name":3,"born":null}]'


def test_a_struct_may_hold_models_and_constraints_of_pydantic_are_kept_in_dataclasses():
    assert serde_for(Ticket).deserialize(b'{"number":1,"holder":{"name":"Ada"}}') == Ticket(
        1, Person(name="Ada")
    )
    with pytest.raises(BadRequest, match="greater than or equal to 18"):
        serde_for(Adult).deserialize(b'{"age":3}')


# Refused on the way in


@pytest.mark.parametrize(
    ("type_hint", "raw", "where", "expected"),
    [
        (Person, b'{"name":1}', "$.name", "valid string"),
        (Person, b"{}", "$.name", "required"),
        (list[Person], b'[{"name":"a"},{"born":1}]', "$[1].name", "required"),
        (Ticket, b'{"number":"1"}', "$.number", "`int`"),
        (Ticket, b'{"number":1,"holder":{"name":3}}', "$.holder", "valid string"),
        (Note, b'{"text":"x"}', "$", "`at`"),
        (dict[str, list[int]], b'{"a":[1,"x"]}', "$[...][1]", "`int`"),
        (int, b'"x"', "$", "`int`"),
        (Literal["on"], b'"off"', "$", "off"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_field_and_what_it_takes(
    type_hint: Any, raw: bytes, where: str, expected: str
):
    with pytest.raises(BadRequest) as caught:
        serde_for(type_hint).deserialize(raw)
    assert f"at {where}: " in caught.value.detail
    assert expected in caught.value.detail


@pytest.mark.parametrize("type_hint", [Any, int, Person, Ticket, list[Person]])
@pytest.mark.parametrize(
    "raw", [b"{nope", b"\xff", b'"\xff"', b'"\\ud800"', b"NaN", b"[" * 100_000, b"1 2", b"\xef\xbb\xbf"]
)
def test_what_is_no_json_is_refused(type_hint: Any, raw: bytes):
    with pytest.raises(BadRequest):
        serde_for(type_hint).deserialize(raw)


def test_several_misfits_are_counted():
    with pytest.raises(BadRequest, match=r"\(and 1 more\)"):
        serde_for(Person).deserialize(b'{"name":1,"born":"x"}')


def test_a_required_value_must_be_there_and_a_default_stands_in():
    with pytest.raises(BadRequest, match="expected Person, got an empty body"):
        RequiredSerde(serde_for(Person), Person).deserialize(b"")
    assert DefaultingSerde(serde_for(int), 7).deserialize(b"") == 7
    assert DefaultingSerde(serde_for(int), 7).deserialize(b"8") == 8


# Refused on the way out


def looped() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("value", "where", "why"),
    [
        ({"a": [1, {"b": 1j}]}, "$.a[1].b", "complex"),
        ({"x": float("nan"), "y": None}, "$.x", "nan"),
        ([1.0, float("-inf")], "$[1]", "-inf"),
        ({"who": Person(name="Ada"), "x": float("inf")}, "$.x", "inf"),
        ({("a", 1): 2}, "$", "tuple"),
        ({None: 2}, "$", "NoneType"),
        ({"a": "\ud800"}, "$.a", "surrogate"),
        (Ticket(object()), "$.number", "object"),  # type: ignore[arg-type]  # the point
        (Note(NOW, pathlib.Path("/")), "$.text", "Path"),  # type: ignore[arg-type]  # the point
        (Person.model_construct(name=object()), "$.name", "object"),  # type: ignore[arg-type]  # the point
        (looped(), "$[0][0]", "contains itself"),
        (lambda: 0, "$", "function"),
    ],
)
def test_what_has_no_json_form_is_refused_with_its_path_and_type(value: Any, where: str, why: str):
    with pytest.raises(NotSerializable) as caught:
        serde_for(Any).serialize(value)
    assert caught.value.detail.startswith(f"at {where}")
    assert why in caught.value.detail


def test_typed_values_are_refused_with_their_path_too():
    with pytest.raises(NotSerializable, match=r"at \$\[0\]\.name: object"):
        serde_for(list[Person]).serialize([Person.model_construct(name=object())])
    with pytest.raises(NotSerializable, match=r"at \$\.name: object"):
        serde_for(Person).serialize(Person.model_construct(name=object()))
    with pytest.raises(NotSerializable, match=r"at \$\.number: object"):
        serde_for(Ticket).serialize(Ticket(object()))


@pytest.mark.parametrize("value", [b"x", bytearray(b"x"), memoryview(b"x")])
def test_bytes_need_their_type(value: Any):
    """As JSON they would come back as text."""
    with pytest.raises(NotSerializable, match="annotate the value as bytes"):
        JsonSerde[Any]().serialize(value)
    assert BytesSerde().serialize(value) == b"x"
    with pytest.raises(NotSerializable, match="expected bytes, got str"):
        BytesSerde().serialize("x")  # type: ignore[arg-type]  # the point


@pytest.mark.parametrize(
    "type_hint", [Connection, list[Connection], dict[str, Connection | None], Ticket | Person]
)
def test_a_type_without_a_json_form_is_refused_when_it_is_declared(type_hint: Any):
    with pytest.raises(BadDefinition, match="no JSON form"):
        serde_for(type_hint)


# Chosen


@pytest.mark.parametrize(
    ("type_hint", "serde"),
    [(bytes, BytesSerde), (Any, JsonSerde), (None, JsonSerde), (Person, PydanticJsonSerde),
     (Ticket, MsgspecJsonSerde), (dict[str, Any], MsgspecJsonSerde)],
)  # fmt: skip
def test_the_annotation_chooses_who_reads(type_hint: Any, serde: type[Serde[Any]]):
    assert type(serde_for(type_hint)) is serde


def test_ones_own_serde_needs_two_methods_only():
    class Upper(Serde[str]):
        def deserialize(self, buf: bytes) -> str | None:
            return buf.decode().lower()

        def serialize(self, obj: str | None) -> bytes:
            return (obj or "").upper().encode()

    assert Upper().deserialize(Upper().serialize("abc")) == "abc"


# Schemas


def test_schemas_say_what_is_read_and_what_is_written():
    assert json_schema(Person) == Person.model_json_schema()
    assert json_schema(list[int]) == {"type": "array", "items": {"type": "integer"}}
    schema = json_schema(Ticket)
    assert schema is not None
    assert "Ticket" in schema["$defs"]
    written = json_schema(Person, "serialization")
    assert written is not None
    assert written["required"] == ["name"]


@pytest.mark.parametrize("type_hint", [Any, None, bytes, object])
def test_untyped_values_and_bytes_have_no_schema(type_hint: Any):
    assert json_schema(type_hint) is None
