"""One handler: the user's function with everything the runner, the clients and discovery must know of it.

Rules of this file:
1. The decorated function stays the user's own: calling it runs it, without any of this.
2. What can be checked when the function is defined is checked there, and says where it is.
3. Annotations are evaluated at first use, so that a handler may speak of types defined further down.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, TypeVar

from agentdur.core.catalog import HandlerMeta, HandlerOptions, InputRule, OutputRule
from agentdur.core.errors import BadDefinition
from agentdur.core.target import HandlerKind, ServiceKind
from agentdur.sdk.schema import json_schema
from agentdur.sdk.serde import DefaultingSerde, DefaultSerde, RequiredSerde, Serde, serde_for
from agentdur.sdk.serde_kind import takes_none
from agentdur.sdk.service_options import ContextManagerFactory, Written, options_over, options_said

I = TypeVar("I")  # noqa: E741  # the Restate SDK's name
O = TypeVar("O")  # noqa: E741

HandlerType: TypeAlias = Callable[[Any, I], Awaitable[O]] | Callable[[Any], Awaitable[O]]
"""A handler's function: `async def h(ctx, arg)` or `async def h(ctx)`."""

HANDLER_NAME = re.compile(r"([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9_]*")
_MARK = "__agentdur_handler__"
_JSON = "application/json"
_OCTETS = "application/octet-stream"


class Owner(Protocol):
    """The service a handler belongs to, as far as the handler knows it."""

    name: str
    service_kind: ClassVar[ServiceKind]
    options: Written
    context_managers: tuple[ContextManagerFactory, ...]


class Handler:
    """A handler of a service. `input_serde` and `output_serde` appear when they are first asked for."""

    __slots__ = (
        "_input_hint", "_output_hint", "context_managers", "fn", "input_serde", "kind", "name", "options",
        "output_serde", "service", "takes_input",
    )  # fmt: skip

    service: Owner
    name: str
    kind: HandlerKind
    fn: Callable[..., Awaitable[Any]]
    takes_input: bool
    input_serde: Serde[Any]
    output_serde: Serde[Any]
    context_managers: tuple[ContextManagerFactory, ...]
    options: Written

    def __init__(
        self, service: Owner, name: str, kind: HandlerKind, fn: Callable[..., Any], options: Written
    ) -> None:
        self.service = service
        self.name = name
        self.kind = kind
        self.fn = fn
        self.options = options
        self.takes_input = len(inspect.signature(fn).parameters) == 2
        own: list[ContextManagerFactory] = options.get("invocation_context_managers") or []
        self.context_managers = (*service.context_managers, *own)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # Reached only while a slot is empty: the annotations have not been evaluated yet.
            if name not in ("input_serde", "output_serde", "_input_hint", "_output_hint"):
                raise AttributeError(name)
            self.resolve()
            return object.__getattribute__(self, name)

    def resolve(self) -> None:
        """Evaluate the annotations and choose the serdes. BadDefinition when they cannot be."""
        signature = inspect.signature(self.fn)
        last = list(signature.parameters.values())[-1]
        self._input_hint: Any = self._evaluate(last.annotation) if self.takes_input else None
        self._output_hint: Any = self._evaluate(signature.return_annotation)
        self.input_serde = self._reader(last.default)
        self.output_serde = self._given("output_serde") or self._chosen(self._output_hint)

    @property
    def place(self) -> str:
        """Which handler, and where its function is."""
        return f"{self.service.name}/{self.name} ({where(self.fn)})"

    @property
    def request_content_type(self) -> str:
        """What a client says its body is: the accepted type, or bytes where any type is."""
        accept = self.options.get("accept") or (_OCTETS if self._input_hint is bytes else _JSON)
        return _OCTETS if "*" in accept else accept

    def meta(self, defaults: HandlerOptions) -> HandlerMeta:
        """What the engine and the frontends need of it, with all options resolved."""
        private = self.options.get("ingress_private")
        inherited = options_over(self.service.options, defaults)
        return HandlerMeta(
            name=self.name,
            kind=self.kind,
            public=not (self.service.options.get("ingress_private") if private is None else private),
            input=self._input_rule(),
            output=self._output_rule(),
            options=options_over(self.options, inherited),
            said=options_said(self.options),
            documentation=self.options.get("description") or inspect.getdoc(self.fn) or "",
            metadata=self.options.get("metadata") or {},
        )

    def _input_rule(self) -> InputRule:
        if not self.takes_input:
            return InputRule(content_type=None, void=True)
        accept = self.options.get("accept") or ("*/*" if self._input_hint is bytes else _JSON)
        schema = None if self._given("input_serde") else json_schema(self._input_hint)
        return InputRule(content_type=accept, json_schema=schema)

    def _output_rule(self) -> OutputRule:
        written = self.options.get("content_type")
        if self._output_hint is types.NoneType and written is None:
            return OutputRule(content_type=None)
        schema = None if self._given("output_serde") else json_schema(self._output_hint, "serialization")
        return OutputRule(
            content_type=written or (_OCTETS if self._output_hint is bytes else _JSON), json_schema=schema
        )

    def _reader(self, default: Any) -> Serde[Any]:
        given = self._given("input_serde")
        if given is not None:
            return given
        chosen = self._chosen(self._input_hint)
        if default is not inspect.Parameter.empty:
            return DefaultingSerde(chosen, default)
        if self._input_hint is bytes or takes_none(self._input_hint):
            return chosen
        return RequiredSerde(chosen, self._input_hint)

    def _given(self, option: str) -> Serde[Any] | None:
        serde: Serde[Any] | None = self.options.get(option)
        unchanged = isinstance(serde, DefaultSerde) and serde.type_hint is None
        return None if unchanged else serde

    def _chosen(self, hint: Any) -> Serde[Any]:
        try:
            return serde_for(hint)
        except BadDefinition as error:
            raise BadDefinition(f"{self.place}: {error.detail}") from error

    def _evaluate(self, annotation: Any) -> Any:
        if annotation is inspect.Signature.empty:
            return Any
        holder = types.SimpleNamespace(__annotations__={"it": annotation})
        scope = getattr(inspect.unwrap(self.fn), "__globals__", {})
        try:
            return typing.get_type_hints(holder, globalns=scope, include_extras=True)["it"]
        except (NameError, TypeError, SyntaxError, AttributeError) as error:
            raise BadDefinition(
                f"{self.place}: cannot evaluate the annotation {annotation!r} ({error}); "
                "define its type at module level, outside `if TYPE_CHECKING:`"
            ) from error


def handler_of(fn: Callable[..., Any]) -> Handler:
    """The handler a function was declared as; BadDefinition when it is none."""
    found = getattr(fn, _MARK, None)
    if isinstance(found, Handler):
        return found
    named = getattr(fn, "__qualname__", repr(fn))
    raise BadDefinition(
        f"{named} is no handler: decorate it with @service.handler(), or use generic_call by name"
    )


def mark(fn: Callable[..., Any], handler: Handler) -> None:
    """From now on `handler_of(fn)` finds it. A function can be one handler only."""
    if _MARK in vars(fn):
        raise BadDefinition(f"{handler.place}: the function is a handler already: {handler_of(fn).place}")
    setattr(fn, _MARK, handler)


def check_function(fn: Any) -> None:
    """BadDefinition unless it is an `async def` of a context and at most one argument."""
    if not inspect.isfunction(fn):
        raise BadDefinition(f"{fn!r} is no function: declare handlers as module-level `async def`")
    plain = inspect.unwrap(fn)
    if inspect.isasyncgenfunction(plain):
        raise BadDefinition(f"{fn.__qualname__} ({where(fn)}): a handler returns one value, it cannot yield")
    if not (inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(plain)):
        raise BadDefinition(
            f"{fn.__qualname__} ({where(fn)}): a handler is `async def`; blocking code belongs into ctx.run"
        )
    parameters = list(inspect.signature(fn).parameters.values())
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if len(parameters) not in (1, 2) or any(one.kind not in positional for one in parameters):
        raise BadDefinition(
            f"{fn.__qualname__} ({where(fn)}): a handler takes (ctx) or (ctx, argument), "
            f"not {inspect.signature(fn)}; put several arguments into one model"
        )


def where(fn: Callable[..., Any]) -> str:
    """file:line of a function."""
    code = getattr(inspect.unwrap(fn), "__code__", None)
    return "no source" if code is None else f"{code.co_filename}:{code.co_firstlineno}"
