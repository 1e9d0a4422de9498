"""Declaring services, virtual objects and workflows."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from msgspec import Struct
from pydantic import BaseModel

from agentdur.core.catalog import HandlerOptions, InputRule, OutputRule
from agentdur.core.errors import BadDefinition, BadRequest
from agentdur.core.target import HandlerKind, ServiceKind
from agentdur.sdk.serde import BytesSerde
from agentdur.sdk.service import InvocationRetryPolicy, Service, VirtualObject, Workflow, handler_of

DEFAULTS = HandlerOptions()


class Question(BaseModel):
    text: str
    depth: int = 1


class Report(Struct):
    title: str


class Connection:
    """No data."""


# Declared


async def test_the_decorated_function_stays_the_users_own():
    service = Service("Greeter")

    async def greet(ctx: object, name: str) -> str:
        return f"hello {name}"

    assert service.handler()(greet) is greet
    assert await greet(None, "Ada") == "hello Ada"


def test_a_handler_knows_its_service_its_name_and_its_kind():
    cart = VirtualObject("Cart")

    @cart.handler()
    async def add(ctx: Any, item: str) -> None: ...

    @cart.handler(name="peek", kind="shared")
    async def look(ctx: Any) -> list[str]:
        return []

    added, looked = handler_of(add), handler_of(look)
    assert (added.service, added.name, added.kind, added.takes_input) == (
        cart, "add", HandlerKind.EXCLUSIVE, True,
    )  # fmt: skip
    assert (looked.name, looked.kind, looked.takes_input) == ("peek", HandlerKind.SHARED, False)
    assert list(cart.handlers) == ["add", "peek"]


def test_a_workflow_has_one_main_and_shared_handlers():
    signup = Workflow("Signup")

    @signup.main()
    async def run(ctx: Any, email: str) -> bool:
        return True

    @signup.handler()
    async def confirm(ctx: Any) -> None: ...

    meta = signup.meta(DEFAULTS)
    assert meta.kind is ServiceKind.WORKFLOW
    assert {name: one.kind for name, one in meta.handlers.items()} == {
        "run": HandlerKind.WORKFLOW, "confirm": HandlerKind.SHARED,
    }  # fmt: skip


def test_types_may_be_defined_after_the_handler_that_speaks_of_them():
    handler = handler_of(plan)
    assert handler.input_serde.deserialize(b'{"days": 3}') == Trip(days=3)


planner = Service("Planner")


@planner.handler()
async def plan(ctx: Any, trip: Trip) -> Trip:
    return trip


class Trip(BaseModel):
    days: int


# What goes in and out


def declared(fn: Callable[..., Any], **options: Any) -> Any:
    service = Service("Any")
    service.handler(**options)(fn)
    return handler_of(fn)


def test_input_and_output_are_read_by_their_annotations():
    async def research(ctx: Any, question: Question) -> Report:
        return Report(question.text)

    handler = declared(research)
    assert handler.input_serde.deserialize(b'{"text": "why?"}') == Question(text="why?")
    assert handler.output_serde.serialize(Report("because")) == b'{"title":"because"}'


def test_schemas_of_the_annotations_reach_the_catalog():
    async def research(ctx: Any, question: Question) -> list[int]:
        return []

    meta = declared(research).meta(DEFAULTS)
    assert meta.input.json_schema == Question.model_json_schema()
    assert meta.output.json_schema == {"type": "array", "items": {"type": "integer"}}
    assert (meta.input.content_type, meta.output.content_type) == ("application/json", "application/json")


def test_a_handler_without_an_argument_takes_no_body_and_one_without_a_result_has_no_content_type():
    async def tick(ctx: Any) -> None: ...

    meta = declared(tick).meta(DEFAULTS)
    assert meta.input == InputRule(content_type=None, void=True)
    assert meta.output == OutputRule(content_type=None)


def test_bytes_go_through_untouched_and_with_any_content_type():
    async def shrink(ctx: Any, image: bytes) -> bytes:
        return image

    handler = declared(shrink)
    meta = handler.meta(DEFAULTS)
    assert handler.input_serde.deserialize(b"\x89PNG") == b"\x89PNG"
    assert (meta.input.content_type, meta.output.content_type) == ("*/*", "application/octet-stream")


def test_an_explicit_serde_and_content_type_win_over_the_annotation():
    async def shrink(ctx: Any, image: str) -> str:
        return image

    handler = declared(
        shrink,
        accept="image/*",
        content_type="image/png",
        input_serde=BytesSerde(),
        output_serde=BytesSerde(),
    )
    meta = handler.meta(DEFAULTS)
    assert isinstance(handler.input_serde, BytesSerde)
    assert isinstance(handler.output_serde, BytesSerde)
    assert (meta.input.content_type, meta.input.json_schema) == ("image/*", None)
    assert (meta.output.content_type, meta.output.json_schema) == ("image/png", None)


def test_an_empty_body_is_none_only_where_none_is_allowed():
    async def must(ctx: Any, question: Question) -> None: ...
    async def may(ctx: Any, question: Question | None) -> None: ...
    async def untyped(ctx, question): ...
    async def defaulting(ctx: Any, depth: int = 3) -> None: ...

    with pytest.raises(BadRequest, match="expected Question, got an empty body"):
        declared(must).input_serde.deserialize(b"")
    assert declared(may).input_serde.deserialize(b"") is None
    assert declared(untyped).input_serde.deserialize(b"") is None
    assert declared(defaulting).input_serde.deserialize(b"") == 3


# Options


def test_options_resolve_from_handler_to_service_to_default_field_by_field():
    service = Service(
        "Slow",
        inactivity_timeout=timedelta(seconds=2),
        journal_retention=timedelta(hours=2),
        invocation_retry_policy=InvocationRetryPolicy(max_attempts=5, initial_interval=timedelta(seconds=1)),
    )

    @service.handler(
        inactivity_timeout=timedelta(seconds=1),
        invocation_retry_policy=InvocationRetryPolicy(max_attempts=0, on_max_attempts="kill"),
    )
    async def work(ctx: Any) -> None: ...

    options = service.meta(HandlerOptions(abort_timeout_ms=77)).handlers["work"].options
    assert options.inactivity_timeout_ms == 1_000
    assert options.journal_retention_ms == 2 * 3_600_000
    assert options.abort_timeout_ms == 77
    assert options.retry.attempts_max == 1  # 0 is read as 1
    assert options.retry.on_exhausted == "kill"
    assert options.retry.delay_ms_initial == 1_000
    assert options.retry.factor == HandlerOptions().retry.factor


@pytest.mark.parametrize("name", ["workflow_retention", "workflow_completion_retention"])
def test_a_workflows_main_says_how_long_its_result_is_kept(name: str):
    workflow = Workflow("Signup")

    @workflow.main(**{name: timedelta(minutes=1)})
    async def run(ctx: Any) -> None: ...

    assert workflow.meta(DEFAULTS).handlers["run"].options.workflow_retention_ms == 60_000


@pytest.mark.parametrize(
    ("options", "lazy"),
    [
        ({}, False),
        ({"enable_lazy_state": True}, True),
        ({"state_preload": False}, True),
        ({"state_preload": ["a"]}, True),
        ({"state_preload": True}, False),
    ],
)
def test_state_can_be_fetched_lazily(options: dict[str, Any], lazy: bool):
    cart = VirtualObject("Cart", enable_lazy_state=None)

    @cart.handler(**options)
    async def add(ctx: Any) -> None: ...

    assert cart.meta(DEFAULTS).handlers["add"].options.lazy_state is lazy


def test_privacy_is_inherited_and_can_be_added():
    inner = Service("Inner", ingress_private=True)
    mixed = Service("Mixed")

    @inner.handler()
    async def hidden(ctx: Any) -> None: ...

    @mixed.handler(ingress_private=True)
    async def quiet(ctx: Any) -> None: ...

    @mixed.handler()
    async def open_to_all(ctx: Any) -> None: ...

    assert not inner.meta(DEFAULTS).public
    assert not inner.meta(DEFAULTS).handlers["hidden"].public
    assert mixed.meta(DEFAULTS).public
    assert [one.public for one in mixed.meta(DEFAULTS).handlers.values()] == [False, True]


def test_documentation_comes_from_the_docstring_unless_it_is_given():
    async def work(ctx: Any) -> None:
        """Does it."""

    async def other(ctx: Any) -> None:
        """Not this."""

    assert declared(work).meta(DEFAULTS).documentation == "Does it."
    assert declared(other, description="This.").meta(DEFAULTS).documentation == "This."


def test_context_managers_of_the_service_come_before_those_of_the_handler():
    @asynccontextmanager
    async def outer() -> AsyncIterator[None]:
        yield

    @asynccontextmanager
    async def inner() -> AsyncIterator[None]:
        yield

    service = Service("Traced", invocation_context_managers=[outer])

    @service.handler(invocation_context_managers=[inner])
    async def work(ctx: Any) -> None: ...

    assert handler_of(work).context_managers == (outer, inner)


# Refused


@pytest.mark.parametrize(
    "name", ["", "1st", "_", "a b", "a/b", "ü", "restateful", "RESTATE", "OpenAPI", "a\n"]
)
def test_bad_service_names_are_refused(name: str):
    with pytest.raises(BadDefinition):
        Service(name)


@pytest.mark.parametrize("name", ["Greeter", "_1", "a.b-c_d", "Openapi2"])
def test_good_service_names_are_taken(name: str):
    assert Service(name).name == name


def refusal(declare: Callable[[], Any]) -> str:
    with pytest.raises(BadDefinition) as caught:
        declare()
    return caught.value.detail


@pytest.mark.parametrize("name", ["a.b", "a-b", "1", "_", "a b"])
def test_bad_handler_names_are_refused_with_the_place_of_the_function(name: str):
    async def work(ctx: Any) -> None: ...

    detail = refusal(lambda: Service("S").handler(name=name)(work))
    line = inspect.getsourcelines(work)[1]
    assert f"{__file__}:{line}" in detail


def test_a_name_is_used_once_per_service():
    service = Service("S")

    async def one(ctx: Any) -> None: ...
    async def two(ctx: Any) -> None: ...

    service.handler(name="work")(one)
    assert "taken by S/work" in refusal(lambda: service.handler(name="work")(two))


def test_a_function_is_one_handler_only():
    async def work(ctx: Any) -> None: ...

    Service("A").handler()(work)
    assert "handler already: A/work" in refusal(lambda: Service("B").handler()(work))


def test_only_async_functions_of_a_context_and_one_argument_are_handlers():
    def blocking(ctx: Any) -> None: ...
    async def none() -> None: ...
    async def three(ctx: Any, a: int, b: int) -> None: ...
    async def keyword(ctx: Any, *, a: int) -> None: ...
    async def starred(*args: Any) -> None: ...
    async def yielding(ctx: Any) -> AsyncIterator[int]:
        yield 1

    take = Service("S").handler()
    assert "`async def`; blocking code belongs into ctx.run" in refusal(lambda: take(blocking))
    assert "cannot yield" in refusal(lambda: take(yielding))
    for fn in (none, three, keyword, starred):
        assert "takes (ctx) or (ctx, argument)" in refusal(lambda fn=fn: take(fn))


def test_forgotten_parentheses_are_noticed():
    async def work(ctx: Any) -> None: ...

    assert "parentheses" in refusal(lambda: Service("S").handler(work))


def test_a_workflow_needs_exactly_one_main():
    lonely, double = Workflow("Lonely"), Workflow("Double")

    @lonely.handler()
    async def look(ctx: Any) -> None: ...

    @double.main()
    async def run(ctx: Any) -> None: ...

    async def again(ctx: Any) -> None: ...

    assert "no main handler" in refusal(lambda: lonely.meta(DEFAULTS))
    assert "has a main handler already: Double/run" in refusal(lambda: double.main()(again))


def test_a_service_without_handlers_cannot_be_served():
    assert "has no handlers" in refusal(lambda: Service("Empty").meta(DEFAULTS))


def test_options_are_refused_where_they_mean_nothing():
    async def work(ctx: Any) -> None: ...

    day = timedelta(days=1)
    refused: list[Callable[[], Any]] = [
        lambda: Workflow("W").main(idempotency_retention=day)(work),  # type: ignore[call-arg]  # wrong
        lambda: Workflow("W").handler(workflow_retention=day)(work),  # type: ignore[call-arg]  # wrong
        lambda: VirtualObject("O").handler(workflow_retention=day)(work),  # type: ignore[call-arg]  # wrong
        lambda: Service("S").handler(enable_lazy_state=True)(work),  # type: ignore[call-arg]  # wrong
    ]
    for declare in refused:
        assert "no option" in refusal(declare)
    detail = refusal(lambda: Service("S", inactivity_timout=day))  # type: ignore[call-arg]  # wrong
    assert "did you mean 'inactivity_timeout'?" in detail


@pytest.mark.parametrize(
    "options",
    [
        {"inactivity_timeout": 5},
        {"abort_timeout": timedelta(seconds=-1)},
        {"invocation_retry_policy": {"max_attempts": 1}},
        {"invocation_retry_policy": InvocationRetryPolicy(exponentiation_factor=0.5)},
        {"invocation_retry_policy": InvocationRetryPolicy(max_attempts=-1)},
        {"invocation_retry_policy": InvocationRetryPolicy(initial_interval=timedelta(-1))},
        {"invocation_retry_policy": InvocationRetryPolicy(on_max_attempts="explode")},
        {"enable_lazy_state": True, "state_preload": True},
    ],
)
def test_values_that_cannot_be_obeyed_are_refused(options: dict[str, Any]):
    with pytest.raises(BadDefinition):
        VirtualObject("O", **options)


def test_a_private_service_has_no_public_handlers():
    async def work(ctx: Any) -> None: ...

    private = Service("P", ingress_private=True)
    assert "cannot have a public handler" in refusal(lambda: private.handler(ingress_private=False)(work))


def test_annotations_that_cannot_be_evaluated_are_named_when_the_service_is_served():
    service = Service("S")

    @service.handler()
    async def work(ctx: Any, thing: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    detail = refusal(lambda: service.meta(DEFAULTS))
    assert "Nowhere" in detail
    assert "S/work" in detail


def test_the_contexts_annotation_is_never_evaluated():
    """It is often imported under TYPE_CHECKING only."""
    service = Service("S")

    @service.handler()
    async def work(ctx: Nowhere, thing: int) -> int:  # type: ignore[name-defined]  # noqa: F821
        return thing

    assert service.meta(DEFAULTS).handlers["work"].input.json_schema == {"type": "integer"}


def test_a_type_without_a_json_form_is_named_when_the_service_is_served():
    service = Service("S")

    @service.handler()
    async def work(ctx: Any, thing: list[Connection]) -> None: ...

    detail = refusal(lambda: service.meta(DEFAULTS))
    assert "S/work" in detail
    assert "Connection" in detail


def test_what_is_no_handler_is_named():
    async def stranger(ctx: Any) -> None: ...

    assert "stranger is no handler" in refusal(lambda: handler_of(stranger))
