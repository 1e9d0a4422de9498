"""Services, virtual objects and workflows: names for handlers, and what the handlers share.

Names, parameters and meanings are those of the Restate SDK: a module moves over by changing its import.
A mistake in a declaration is a BadDefinition where it is made, with the file and line of the function.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Literal, TypeVar, Unpack

from agentdur.core.catalog import HandlerOptions, ServiceMeta, is_internal
from agentdur.core.errors import BadDefinition
from agentdur.core.target import HandlerKind, ServiceKind
from agentdur.sdk.service_handler import (
    HANDLER_NAME,
    Handler,
    HandlerType,
    check_function,
    handler_of,
    mark,
    where,
)
from agentdur.sdk.service_options import (
    ContextManagerFactory,
    InvocationRetryPolicy,
    KeyedHandlerOptions,
    KeyedServiceOptions,
    ServiceHandlerOptions,
    ServiceOptions,
    WorkflowMainOptions,
    Written,
    check_options,
    options_over,
)

__all__ = [
    "BaseService", "Handler", "HandlerType", "InternalObject", "InvocationRetryPolicy", "Service",
    "VirtualObject", "Workflow", "handler_of",
]  # fmt: skip

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])

SERVICE_NAME = re.compile(r"([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9._-]*")


class BaseService:
    """What the three kinds of services have in common."""

    service_kind: ClassVar[ServiceKind]
    internal: ClassVar[bool] = False
    """True for agentdur's own: its name is reserved, and people are not shown it."""
    guests: ClassVar[Callable[[Any, Sequence[BaseService]], list[tuple[str, Any]]] | None] = None
    """Services of this kind bring HTTP routes: made from a client and all services, as (prefix, router). So
    the composition need not know every kind there may be."""
    _allowed: ClassVar[type] = ServiceOptions

    def __init__(
        self, name: str, description: str | None, metadata: dict[str, str] | None, options: Written
    ) -> None:
        _check_service_name(name)
        if is_internal(name.lower()) is not self.internal:
            raise BadDefinition(f"{name!r} is reserved: names that start with 'agentdur.' are agentdur's own")
        check_options(options, self._allowed, f"{type(self).__name__} {name!r}")
        self.name = name
        self.description = description
        self.metadata = metadata
        self.options = options
        self.context_managers: tuple[ContextManagerFactory, ...] = tuple(
            options.get("invocation_context_managers") or ()
        )
        self.handlers: dict[str, Handler] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def check(self) -> None:
        """BadDefinition when it cannot be served: no handlers, or annotations that make no sense."""
        if not self.handlers:
            raise BadDefinition(f"{self!r} has no handlers: decorate a function with its handler()")
        for handler in self.handlers.values():
            handler.resolve()

    def meta(self, defaults: HandlerOptions) -> ServiceMeta:
        """What the engine and the frontends need of it; checks it first."""
        self.check()
        return ServiceMeta(
            name=self.name,
            kind=self.service_kind,
            handlers={name: handler.meta(defaults) for name, handler in self.handlers.items()},
            public=not self.options.get("ingress_private"),
            options=options_over(self.options, defaults),
            documentation=self.description or "",
            metadata=self.metadata or {},
        )

    def _adds(self, name: str | None, kind: HandlerKind, allowed: type, options: Written) -> Callable[[F], F]:
        """The decorator behind `handler()` and `main()`."""
        if callable(name):
            raise BadDefinition(f"{where(name)}: write the decorator with its parentheses: @….handler()")

        def add(fn: F) -> F:
            check_function(fn)
            handler = Handler(self, name or fn.__name__, kind, fn, options)
            self._check_handler(handler, allowed)
            mark(fn, handler)
            self.handlers[handler.name] = handler
            return fn

        return add

    def _check_handler(self, handler: Handler, allowed: type) -> None:
        place = handler.place
        if not HANDLER_NAME.fullmatch(handler.name):
            raise BadDefinition(f"{place}: a handler name is letters, digits and _, and starts with a letter")
        if handler.name in self.handlers:
            raise BadDefinition(f"{place}: the name is taken by {self.handlers[handler.name].place}")
        check_options(handler.options, allowed, place)
        if self.options.get("ingress_private") and handler.options.get("ingress_private") is False:
            raise BadDefinition(f"{place}: a private service cannot have a public handler")


class Service(BaseService):
    """Handlers without a key; any number of invocations run side by side."""

    service_kind = ServiceKind.SERVICE

    def __init__(
        self,
        name: str,
        description: str | None = None,
        metadata: dict[str, str] | None = None,
        **options: Unpack[ServiceOptions],
    ) -> None:
        super().__init__(name, description, metadata, options)

    def handler(self, name: str | None = None, **options: Unpack[ServiceHandlerOptions]) -> Callable[[F], F]:
        """Declares a function as a handler; its name is the function's unless given."""
        return self._adds(name, HandlerKind.PLAIN, ServiceHandlerOptions, options)


class VirtualObject(BaseService):
    """Handlers by key, with state: one exclusive invocation at a time per key, shared ones beside it."""

    service_kind = ServiceKind.VIRTUAL_OBJECT
    _allowed = KeyedServiceOptions

    def __init__(
        self,
        name: str,
        description: str | None = None,
        metadata: dict[str, str] | None = None,
        **options: Unpack[KeyedServiceOptions],
    ) -> None:
        super().__init__(name, description, metadata, options)

    def handler(
        self,
        name: str | None = None,
        kind: Literal["exclusive", "shared"] | None = "exclusive",
        **options: Unpack[KeyedHandlerOptions],
    ) -> Callable[[F], F]:
        """Declares a function as a handler: exclusive ones may write state, shared ones only read it."""
        kinds = {
            None: HandlerKind.EXCLUSIVE,
            "exclusive": HandlerKind.EXCLUSIVE,
            "shared": HandlerKind.SHARED,
        }
        if kind not in kinds:
            raise BadDefinition(f"{self!r}: a handler is 'exclusive' or 'shared', not {kind!r}")
        return self._adds(name, kinds[kind], KeyedHandlerOptions, options)


class InternalObject(VirtualObject):
    """A virtual object of agentdur's own: an App serves it beside the user's services, and hides it."""

    internal = True


class Workflow(BaseService):
    """One main handler that runs once per key, and shared handlers that look at it and talk to it."""

    service_kind = ServiceKind.WORKFLOW
    _allowed = KeyedServiceOptions

    def __init__(
        self,
        name: str,
        description: str | None = None,
        metadata: dict[str, str] | None = None,
        **options: Unpack[KeyedServiceOptions],
    ) -> None:
        super().__init__(name, description, metadata, options)

    @property
    def main_handler(self) -> Handler | None:
        """The one that runs once per key; None while none is declared."""
        return next((one for one in self.handlers.values() if one.kind is HandlerKind.WORKFLOW), None)

    def main(self, name: str | None = None, **options: Unpack[WorkflowMainOptions]) -> Callable[[F], F]:
        """Declares the function that runs once per key."""
        return self._adds(name, HandlerKind.WORKFLOW, WorkflowMainOptions, options)

    def handler(self, name: str | None = None, **options: Unpack[KeyedHandlerOptions]) -> Callable[[F], F]:
        """Declares a shared handler: it may run at any time, also beside the main one."""
        return self._adds(name, HandlerKind.SHARED, KeyedHandlerOptions, options)

    def check(self) -> None:
        """Also refuses a workflow without a main handler."""
        if self.main_handler is None:
            raise BadDefinition(f"{self!r} has no main handler: decorate one function with its main()")
        super().check()

    def _check_handler(self, handler: Handler, allowed: type) -> None:
        main = self.main_handler
        if handler.kind is HandlerKind.WORKFLOW and main is not None:
            raise BadDefinition(f"{handler.place}: the workflow has a main handler already: {main.place}")
        super()._check_handler(handler, allowed)


def _check_service_name(name: object) -> None:
    if not isinstance(name, str) or not SERVICE_NAME.fullmatch(name):
        raise BadDefinition(f"{name!r} is no service name: letters, digits and . _ -, starting with a letter")
    if name.lower().startswith("restate") or name.lower() == "openapi":
        raise BadDefinition(
            f"{name!r} is reserved as a service name: take one that does not start with 'restate'"
        )
