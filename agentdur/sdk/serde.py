"""Values to bytes and back: JSON for data, bytes as they are, a serde of one's own for the rest.

Rules of this file:
1. No value is no bytes: None is written as b"" and b"" is read as None.
2. An annotation decides once how its values are read; reading names the field that does not fit.
3. Data only: what has no JSON form is refused with the path of the culprit, never guessed and never pickled.
4. Untyped JSON comes back as plain dicts, lists and scalars, whatever was written.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Generic, TypeVar

import msgspec
import pydantic
import pydantic_core

from agentdur.core.errors import BadDefinition, BadRequest, NotSerializable
from agentdur.sdk.serde_culprit import culprit
from agentdur.sdk.serde_kind import JsonReader, is_model, reader_of, type_name

T = TypeVar("T")

_BYTES: frozenset[type] = frozenset({bytes, bytearray, memoryview})
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
_UNWRITABLE = (
    TypeError,
    ValueError,
    RecursionError,
    NotImplementedError,
    pydantic_core.PydanticSerializationError,
)


class Serde(ABC, Generic[T]):
    """How values of one type become bytes and come back. Subclass it to bring a format of your own."""

    __slots__ = ()

    @abstractmethod
    def deserialize(self, buf: bytes) -> T | None:
        """The value of `buf`; None for no bytes. Raises BadRequest when they do not fit."""

    @abstractmethod
    def serialize(self, obj: T | None) -> bytes:
        """The bytes of `obj`; b"" for None. Raises NotSerializable when it has no such form."""


class BytesSerde(Serde[bytes]):
    """Bytes as they are."""

    __slots__ = ()

    def deserialize(self, buf: bytes) -> bytes:
        return buf

    def serialize(self, obj: bytes | None) -> bytes:
        if obj is None:
            return b""
        if type(obj) not in _BYTES:
            raise NotSerializable(f"expected bytes, got {type_name(type(obj))}")
        return bytes(obj)


class JsonSerde(Serde[T]):
    """Any JSON. Models, dataclasses and the like can be written, and are read back as plain data."""

    __slots__ = ()

    def deserialize(self, buf: bytes) -> T | None:
        if not buf:
            return None
        try:
            return _decode_any(buf)  # type: ignore[no-any-return]  # plain JSON has no better type
        except _UNREADABLE as error:
            raise _misfit(error) from error

    def serialize(self, obj: T | None) -> bytes:
        if obj is None:
            return b""
        if type(obj) in _BYTES:
            raise NotSerializable("bytes are no JSON: annotate the value as bytes, or give a BytesSerde")
        return _write(obj)


class MsgspecJsonSerde(Serde[T]):
    """JSON of a type msgspec knows: a Struct, dataclass, TypedDict, scalar, or containers of them."""

    __slots__ = ("_decode", "model")

    def __init__(self, model: Any) -> None:
        self.model = model
        self._decode = msgspec.json.Decoder(model, dec_hook=_build_model).decode

    def deserialize(self, buf: bytes) -> T | None:
        if not buf:
            return None
        try:
            return self._decode(buf)  # type: ignore[no-any-return]  # a runtime type
        except _UNREADABLE as error:
            raise _misfit(error) from error

    def serialize(self, obj: T | None) -> bytes:
        return b"" if obj is None else _write(obj)


class PydanticJsonSerde(Serde[T]):
    """JSON of a pydantic model. Aliases are written; on reading, alias and name are both understood."""

    __slots__ = ("model",)

    def __init__(self, model: Any) -> None:
        self.model = model

    def deserialize(self, buf: bytes) -> T | None:
        if not buf:
            return None
        try:
            found: T = self.model.__pydantic_validator__.validate_json(buf, by_alias=True, by_name=True)
            return found
        except _UNREADABLE as error:
            raise _misfit(error) from error

    def serialize(self, obj: T | None) -> bytes:
        if obj is None:
            return b""
        if not isinstance(obj, pydantic.BaseModel):
            return _write(obj)
        try:
            # The object's own serializer, not the annotated type's: a subclass keeps its fields.
            return obj.__pydantic_serializer__.to_json(obj, by_alias=True, warnings=False)
        except _UNWRITABLE as error:
            raise NotSerializable(culprit(obj, _encode_any, error)) from error


class PydanticTypeSerde(Serde[T]):
    """JSON of any other annotation pydantic understands, such as `list[Model]` or `A | B`."""

    __slots__ = ("_adapter", "type_hint")

    def __init__(self, type_hint: Any) -> None:
        self.type_hint = type_hint
        self._adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(type_hint)

    def deserialize(self, buf: bytes) -> T | None:
        if not buf:
            return None
        try:
            return self._adapter.validate_json(  # type: ignore[no-any-return]  # a runtime type
                buf, by_alias=True, by_name=True
            )
        except _UNREADABLE as error:
            raise _misfit(error) from error

    def serialize(self, obj: T | None) -> bytes:
        if obj is None:
            return b""
        try:
            # No warnings: values built without validation, as model clients do, are written as they are.
            return self._adapter.dump_json(obj, by_alias=True, warnings=False)
        except _UNWRITABLE as error:
            raise NotSerializable(culprit(obj, _encode_any, error)) from error


class DefaultSerde(Serde[T]):
    """What is used when no serde was given: chosen by `type_hint`, plain JSON without one."""

    __slots__ = ("_chosen", "type_hint")

    def __init__(self, type_hint: Any = None) -> None:
        self.type_hint = type_hint
        self._chosen: Serde[Any] = _PLAIN if type_hint is None else serde_for(type_hint)

    def with_maybe_type(self, type_hint: Any = None) -> DefaultSerde[Any]:
        """One for `type_hint`; this one stays as it is."""
        return DefaultSerde(type_hint)

    def deserialize(self, buf: bytes) -> T | None:
        return self._chosen.deserialize(buf)

    def serialize(self, obj: T | None) -> bytes:
        return self._chosen.serialize(obj)


class RequiredSerde(Serde[T]):
    """Reads as `inner` does, but refuses to read no bytes: for a handler that cannot take None."""

    __slots__ = ("_deserialize", "_expected", "inner")

    def __init__(self, inner: Serde[T], type_hint: Any) -> None:
        self.inner = inner
        self._deserialize = inner.deserialize
        self._expected = type_name(type_hint)

    def deserialize(self, buf: bytes) -> T | None:
        if not buf:
            raise BadRequest(f"expected {self._expected}, got an empty body")
        return self._deserialize(buf)

    def serialize(self, obj: T | None) -> bytes:
        return self.inner.serialize(obj)


class DefaultingSerde(Serde[T]):
    """Reads as `inner` does, and no bytes as `default`: for a handler whose argument has one."""

    __slots__ = ("default", "inner")

    def __init__(self, inner: Serde[T], default: T) -> None:
        self.inner = inner
        self.default = default

    def deserialize(self, buf: bytes) -> T | None:
        return self.inner.deserialize(buf) if buf else self.default

    def serialize(self, obj: T | None) -> bytes:
        return self.inner.serialize(obj)


def serde_for(type_hint: Any) -> Serde[Any]:
    """The serde of an annotation, the same one each time. BadDefinition when the type has no JSON form."""
    try:
        return _chosen(type_hint)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        return _choose(type_hint)  # such as Annotated[int, {...}]


def _choose(type_hint: Any) -> Serde[Any]:
    if type_hint is bytes or type_hint is bytearray:
        return BytesSerde()
    if is_model(type_hint):
        return PydanticJsonSerde(type_hint)
    reader, foreign = reader_of(type_hint)
    match reader:
        case JsonReader.UNTYPED:
            return _PLAIN
        case JsonReader.MSGSPEC:
            return _first_of(type_hint, foreign, MsgspecJsonSerde, PydanticTypeSerde)
        case JsonReader.PYDANTIC:
            return _first_of(type_hint, foreign, PydanticTypeSerde, MsgspecJsonSerde)


def _first_of(type_hint: Any, foreign: list[Any], *ways: Callable[[Any], Serde[Any]]) -> Serde[Any]:
    """The first way that can be built; each library refuses some types the other one knows."""
    reasons = []
    for way in ways:
        try:
            for part in foreign if way is MsgspecJsonSerde else ():
                _adapter(part)  # msgspec would take any class on trust and fail on the first value
            return way(type_hint)
        except (TypeError, NameError, ValueError, AttributeError, pydantic.PydanticUserError) as error:
            reasons.append(str(error).splitlines()[0])
    raise BadDefinition(f"{type_name(type_hint)} has no JSON form: {'; '.join(reasons)}")


_chosen = lru_cache(maxsize=4096)(_choose)
_PLAIN: Serde[Any] = JsonSerde()


def _encode_custom(value: Any) -> Any:
    """What msgspec does not know: pydantic models write themselves."""
    if is_model(type(value)):
        return msgspec.Raw(value.__pydantic_serializer__.to_json(value, by_alias=True, warnings=False))
    raise TypeError(f"{type_name(type(value))} has no JSON form")


_encode_any = msgspec.json.Encoder(enc_hook=_encode_custom).encode
_decode_any = msgspec.json.Decoder().decode


def _write(obj: Any) -> bytes:
    """JSON of `obj`. NaN and infinities are refused: JSON has none, and null would be another value."""
    try:
        raw = _encode_any(obj)
        if b"null" in raw:
            _refuse_nan(obj)
    except _UNWRITABLE as error:
        raise NotSerializable(culprit(obj, _encode_any, error)) from error
    return raw


def _skip_custom(value: Any) -> Any:
    """For the search of NaN: plain containers are searched, a pydantic model answers for itself."""
    if is_model(type(value)):
        return None
    plain = msgspec.to_builtins(value, enc_hook=lambda _: None)
    return None if plain is value else plain


_refuse_nan = json.JSONEncoder(allow_nan=False, skipkeys=True, default=_skip_custom).encode


@lru_cache(maxsize=4096)
def _adapter(type_hint: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(type_hint)


def _build_model(type_hint: Any, data: Any) -> Any:
    """What msgspec does not know, inside what it knows."""
    try:
        return _adapter(type_hint).validate_python(data, by_alias=True, by_name=True)
    except pydantic.ValidationError as error:
        raise ValueError(_first_misfit(error)) from error  # msgspec adds the way to here


def _misfit(error: Exception) -> BadRequest:
    """What was expected where, in one line."""
    if isinstance(error, pydantic.ValidationError):
        return BadRequest(f"at ${_first_misfit(error)}")
    if isinstance(error, msgspec.ValidationError):
        what, _, place = str(error).partition(" - at ")
        return BadRequest(f"at {place.strip('`') or '$'}: {what}")
    return BadRequest(f"not valid JSON: {error}")


def _first_misfit(error: pydantic.ValidationError) -> str:
    first, *others = error.errors(include_url=False, include_context=False, include_input=False)
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
    more = f" (and {len(others)} more)" if others else ""
    return f"{place}: {first['msg']}{more}"
