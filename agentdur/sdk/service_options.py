"""The options of services and handlers, as their authors write them, and what they resolve to.

Rules of this file:
1. Most specific wins, field by field: handler, then service, then the engine's default.
2. Names, units and meanings are those of the Restate SDK; times are `timedelta`, whole milliseconds count.
3. An option that cannot be obeyed is refused where it is written, not ignored.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeAlias, TypedDict

from msgspec.structs import replace

from agentdur.core.catalog import HandlerOptions
from agentdur.core.errors import BadDefinition
from agentdur.core.retry import RetryPolicy
from agentdur.sdk.serde import Serde

ContextManagerFactory: TypeAlias = Callable[[], AbstractAsyncContextManager[Any]]
Written: TypeAlias = Mapping[str, Any]
"""Options as they were given: what is absent or None is inherited."""


@dataclass(frozen=True, slots=True)
class InvocationRetryPolicy:
    """How failed attempts of an invocation are retried; what is None is inherited.

    `max_attempts` counts the first attempt. `on_max_attempts`: "pause" keeps the invocation until an operator
    resumes it, "kill" ends it with its last error.
    """

    initial_interval: timedelta | None = None
    exponentiation_factor: float | None = None
    max_interval: timedelta | None = None
    max_attempts: int | None = None
    on_max_attempts: Literal["pause", "kill"] | None = None

    def given(self) -> dict[str, Any]:
        """What is given, in the engine's words."""
        given = {
            "delay_ms_initial": _ms("initial_interval", self.initial_interval),
            "factor": self.exponentiation_factor,
            "delay_ms_max": _ms("max_interval", self.max_interval),
            "attempts_max": None if self.max_attempts is None else max(1, self.max_attempts),
            "on_exhausted": self.on_max_attempts,
        }
        return {name: value for name, value in given.items() if value is not None}

    def over(self, inherited: RetryPolicy) -> RetryPolicy:
        """The policy of the engine's words, this one's fields before the inherited ones."""
        return replace(inherited, **self.given())


class ServiceOptions(TypedDict, total=False):
    """What all handlers of a service inherit."""

    inactivity_timeout: timedelta | None
    """An attempt that waits this long is asked to suspend; it costs no memory from then on."""
    abort_timeout: timedelta | None
    """An attempt that does not suspend this long after it was asked to is aborted and retried."""
    journal_retention: timedelta | None
    """How long the journal is kept after the end; zero: not at all."""
    idempotency_retention: timedelta | None
    """How long the result of a request with an idempotency key is kept."""
    ingress_private: bool | None
    """True: only other handlers may call it."""
    invocation_retry_policy: InvocationRetryPolicy | None
    """How failed attempts are retried."""
    invocation_context_managers: list[ContextManagerFactory] | None
    """Entered around each attempt, first one outermost."""


class KeyedServiceOptions(ServiceOptions, total=False):
    """Those of a virtual object or workflow."""

    enable_lazy_state: bool | None
    """True: state values are fetched when asked for, not handed over at the start."""
    state_preload: bool | list[str] | None
    """The newer word: False is lazy. A list of keys counts as lazy too: all are fetched when asked for."""


class _HandlerBasics(TypedDict, total=False):
    accept: str | None
    """The content type callers must send, with wildcards; default: application/json, for bytes anything."""
    content_type: str | None
    """The content type of the answer; default: application/json, for bytes application/octet-stream."""
    input_serde: Serde[Any]
    """How the input is read; default: by its annotation."""
    output_serde: Serde[Any]
    """How the answer is written; default: by its annotation."""
    metadata: dict[str, str] | None
    """Shown by the admin API."""
    description: str | None
    """Shown by the admin API and in OpenAPI; default: the docstring."""
    inactivity_timeout: timedelta | None
    abort_timeout: timedelta | None
    journal_retention: timedelta | None
    ingress_private: bool | None
    invocation_retry_policy: InvocationRetryPolicy | None
    invocation_context_managers: list[ContextManagerFactory] | None


class ServiceHandlerOptions(_HandlerBasics, total=False):
    """Those of a handler of a plain service."""

    idempotency_retention: timedelta | None


class KeyedHandlerOptions(ServiceHandlerOptions, total=False):
    """Those of a handler of a virtual object, or a shared one of a workflow."""

    enable_lazy_state: bool | None
    state_preload: bool | list[str] | None


class WorkflowMainOptions(_HandlerBasics, total=False):
    """Those of a workflow's main handler: idempotent by its key, so without an idempotency retention."""

    workflow_retention: timedelta | None
    """How long the result, state and promises are kept after the end; until then the key cannot run again."""
    workflow_completion_retention: timedelta | None
    """The same, under the name of the discovery manifest."""
    enable_lazy_state: bool | None
    state_preload: bool | list[str] | None


_TIMES = {
    "inactivity_timeout": "inactivity_timeout_ms",
    "abort_timeout": "abort_timeout_ms",
    "journal_retention": "journal_retention_ms",
    "idempotency_retention": "idempotency_retention_ms",
    "workflow_retention": "workflow_retention_ms",
    "workflow_completion_retention": "workflow_retention_ms",
}


def check_options(written: Written, allowed: type, place: str) -> None:
    """BadDefinition, with `place`, for names that are not allowed here and values that cannot be."""
    known = frozenset[str](vars(allowed)["__optional_keys__"])
    for name, value in written.items():
        if name not in known:
            raise BadDefinition(f"{place}: no option {name!r} here{nearest(name, known)}")
        if name in _TIMES:
            _ms(f"{place}: {name}", value)
    for one, other in (
        ("enable_lazy_state", "state_preload"),
        ("workflow_retention", "workflow_completion_retention"),
    ):
        if written.get(one) is not None and written.get(other) is not None:
            raise BadDefinition(f"{place}: {one} and {other} say the same; give one of them")
    _check_retry(written.get("invocation_retry_policy"), place)


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean …?`, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def options_over(written: Written, inherited: HandlerOptions) -> HandlerOptions:
    """The options of the engine's words, the written ones before the inherited ones."""
    given: dict[str, Any] = {
        field: _ms(name, written[name]) for name, field in _TIMES.items() if written.get(name) is not None
    }
    if (lazy := _lazy_state(written)) is not None:
        given["lazy_state"] = lazy
    if (retry := written.get("invocation_retry_policy")) is not None:
        given["retry"] = retry.over(inherited.retry)
    return replace(inherited, **given) if given else inherited


def options_said(written: Written) -> tuple[str, ...]:
    """Which of the engine's options are written, those of the retry policy by its fields."""
    said = [field for name, field in _TIMES.items() if written.get(name) is not None]
    if _lazy_state(written) is not None:
        said.append("lazy_state")
    if written.get("ingress_private") is not None:
        said.append("public")
    if (retry := written.get("invocation_retry_policy")) is not None:
        said += retry.given()
    return tuple(said)


def _lazy_state(written: Written) -> bool | None:
    preload = written.get("state_preload")
    if preload is not None:
        return preload is not True
    lazy: bool | None = written.get("enable_lazy_state")
    return lazy


def _ms(name: str, value: timedelta | None) -> int | None:
    if value is None:
        return None
    if not isinstance(value, timedelta):
        raise BadDefinition(f"{name} takes a timedelta, not {value!r}")
    if value < timedelta(0):
        raise BadDefinition(f"{name} cannot be negative: {value}")
    return value // timedelta(milliseconds=1)


def _check_retry(policy: Any, place: str) -> None:
    if policy is None:
        return
    if not isinstance(policy, InvocationRetryPolicy):
        raise BadDefinition(
            f"{place}: invocation_retry_policy takes an InvocationRetryPolicy, not {policy!r}"
        )
    _ms(f"{place}: initial_interval", policy.initial_interval)
    _ms(f"{place}: max_interval", policy.max_interval)
    if policy.exponentiation_factor is not None and policy.exponentiation_factor < 1:
        raise BadDefinition(
            f"{place}: exponentiation_factor must be at least 1: {policy.exponentiation_factor}"
        )
    if policy.max_attempts is not None and policy.max_attempts < 0:
        raise BadDefinition(f"{place}: max_attempts cannot be negative: {policy.max_attempts}")
    if policy.on_max_attempts not in (None, "pause", "kill"):
        raise BadDefinition(
            f"{place}: on_max_attempts takes 'pause' or 'kill', not {policy.on_max_attempts!r}"
        )
