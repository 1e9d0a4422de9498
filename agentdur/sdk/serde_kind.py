"""Which library reads a type: msgspec where it knows the whole type, pydantic where the type speaks pydantic.

Rules of this file:
1. A constraint is never dropped: metadata msgspec would ignore makes the type pydantic's.
2. A msgspec Struct anywhere makes the type msgspec's: pydantic cannot read one, msgspec can call pydantic.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import types
import typing
import uuid
from collections import abc
from typing import Any

import msgspec
import pydantic
import typing_extensions


class JsonReader(enum.Enum):
    """Who reads it. UNTYPED: plain JSON."""

    UNTYPED = 0
    MSGSPEC = 1
    PYDANTIC = 2


_SCALARS = frozenset({
    int, float, str, bool, bytes, bytearray, type(None), uuid.UUID, decimal.Decimal,
    datetime.datetime, datetime.date, datetime.time, datetime.timedelta,
})  # fmt: skip
_ANYTHING = frozenset({Any, object, None, type(None)})
_CONTAINERS = frozenset({
    list, tuple, dict, set, frozenset, abc.Collection, abc.Sequence, abc.MutableSequence, abc.Mapping,
    abc.MutableMapping, abc.Set, abc.MutableSet,
})  # fmt: skip


def reader_of(type_hint: Any) -> tuple[JsonReader, list[Any]]:
    """The reader for an annotation, and the parts of it that only pydantic can read."""
    if _is_anything(type_hint):
        return JsonReader.UNTYPED, []
    seen = _Survey()
    seen.visit(type_hint)
    reader = JsonReader.PYDANTIC if seen.foreign and not seen.struct else JsonReader.MSGSPEC
    return reader, seen.foreign


def takes_none(type_hint: Any) -> bool:
    """True when None is a value of the annotation."""
    if _is_anything(type_hint):
        return True
    if isinstance(type_hint, typing.TypeVar):
        return True
    origin = typing.get_origin(type_hint)
    if origin is typing.Annotated:
        return takes_none(typing.get_args(type_hint)[0])
    if origin in (typing.Union, types.UnionType):
        return any(takes_none(arm) for arm in typing.get_args(type_hint))
    if isinstance(type_hint, typing_extensions.TypeAliasType):
        return takes_none(type_hint.__value__)
    return False


def is_model(type_hint: Any) -> bool:
    """True for a pydantic model class."""
    return isinstance(type_hint, type) and issubclass(type_hint, pydantic.BaseModel)


def type_name(type_hint: Any) -> str:
    """As the author wrote it, more or less."""
    if isinstance(type_hint, type) and typing.get_origin(type_hint) is None:
        return type_hint.__qualname__.rpartition("<locals>.")[2]
    return str(type_hint).replace("typing.", "")


def _is_anything(type_hint: Any) -> bool:
    try:
        return type_hint in _ANYTHING
    except TypeError:  # unhashable metadata
        return False


class _Survey:
    """A walk through a type; each class is visited once."""

    def __init__(self) -> None:
        self.struct = False
        self.foreign: list[Any] = []
        self._visited: set[int] = set()

    def visit(self, hint: Any) -> None:
        if id(hint) in self._visited:
            return
        self._visited.add(id(hint))
        origin = typing.get_origin(hint)
        if hint is None or hint is Any:
            return
        if origin is not None:
            self._visit_generic(hint, origin)
        elif isinstance(hint, type):
            self._visit_class(hint)
        elif isinstance(hint, typing_extensions.TypeAliasType):
            self.visit(hint.__value__)
        elif isinstance(hint, typing.NewType):
            self.visit(hint.__supertype__)
        else:
            self.foreign.append(hint)

    def _visit_generic(self, hint: Any, origin: Any) -> None:
        args = typing.get_args(hint)
        if origin is typing.Annotated:
            if any(not isinstance(extra, msgspec.Meta | str) for extra in args[1:]):
                self.foreign.append(hint)
            self.visit(args[0])
            return
        if origin is typing.Literal:
            if any(not isinstance(arg, int | str | None) for arg in args):
                self.foreign.append(hint)
            return
        if origin in (typing_extensions.Required, typing_extensions.NotRequired, typing.ClassVar):
            self.visit(args[0])
            return
        if origin not in _CONTAINERS and origin not in (typing.Union, types.UnionType):
            self.visit(origin)
        for arg in args:
            if arg is not Ellipsis and not isinstance(arg, typing.TypeVar):
                self.visit(arg)

    def _visit_class(self, cls: type) -> None:
        if cls in _SCALARS or cls in _CONTAINERS or cls is object or issubclass(cls, enum.Enum):
            return
        if issubclass(cls, msgspec.Struct):
            self.struct = True
        elif hasattr(cls, "__pydantic_core_schema__") or not _has_fields(cls):
            self.foreign.append(cls)
            return
        try:
            hints = typing_extensions.get_type_hints(cls, include_extras=True)
        except (NameError, TypeError):
            self.foreign.append(cls)  # pydantic also looks into the scope a class was made in
            return
        for hint in hints.values():
            self.visit(hint)


def _has_fields(cls: type) -> bool:
    return (
        dataclasses.is_dataclass(cls)
        or typing_extensions.is_typeddict(cls)
        or (issubclass(cls, tuple) and hasattr(cls, "_fields"))
    )
