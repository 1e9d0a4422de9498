"""Calls and sends: the callee's id is known at once, its submission leaves with the same commit."""

import pytest
from msgspec.structs import replace

from agentdur.core.catalog import Catalog, HandlerMeta, HandlerOptions
from agentdur.core.commands import Propose, Submit
from agentdur.core.effects import Append, Deliver, Refuse, Send, Transition
from agentdur.core.journal import (
    Call,
    CalleeId,
    Completion,
    Failure,
    OneWayCall,
    Run,
    RunResult,
    Success,
)
from agentdur.core.machine import apply
from agentdur.core.machine import propose as proposals
from agentdur.core.machine.propose import retention
from agentdur.core.state import Waiter
from agentdur.core.target import HandlerKind, Target
from tests.core.builders import (
    ADD,
    APPROVE,
    CATALOG,
    CHILD,
    DAY,
    GREET,
    INV,
    NOW,
    OTHER,
    PEEK,
    RUN,
    running,
    say,
)

HEADERS = (("tenant", "blue"),)


def call(target: Target = GREET, **fields) -> Call:
    return Call(
        service=target.service, handler=target.handler, key=target.key, parameter=b"ann", headers=HEADERS,
        id_completion=1, completion=2, **fields,
    )  # fmt: skip


def send(target: Target = GREET, **fields) -> OneWayCall:
    return OneWayCall(
        service=target.service, handler=target.handler, key=target.key, parameter=b"ann", headers=HEADERS,
        id_completion=1, **fields,
    )  # fmt: skip


def propose(*entries, callees=(CHILD, OTHER)):
    return say(running(), Propose(INV, 1, entries, callees))


def submission(target: Target, *, keep: tuple[int, int], **fields) -> Submit:
    return Submit(
        id=CHILD, target=target, value=b"ann", headers=HEADERS, invoked_by="service", parent=INV,
        completion_retention_ms=keep[0], journal_retention_ms=keep[1], **fields,
    )  # fmt: skip


@pytest.mark.parametrize("target", [GREET, ADD, PEEK, RUN, APPROVE])
def test_a_call_knows_its_callee_and_waits_for_the_result(target):
    known = Completion(1, "CallId", CalleeId(CHILD))
    keep = (4 * DAY, 2 * DAY) if target is RUN else (2 * DAY, 2 * DAY)
    assert propose(call(target)) == Transition(
        running(length=3, done=(1,), open=(2,)),
        (
            Append(INV, 1, call(target)),
            Append(INV, 2, known),
            Deliver(INV, 2, known),
            Send(submission(target, keep=keep, caller=Waiter(INV, 2, "Call"))),
        ),
    )


def test_a_send_waits_for_nothing():
    known = Completion(1, "CallId", CalleeId(CHILD))
    assert propose(send()) == Transition(
        running(length=3, done=(1,)),
        (
            Append(INV, 1, send()),
            Append(INV, 2, known),
            Deliver(INV, 2, known),
            Send(submission(GREET, keep=(2 * DAY, 2 * DAY))),
        ),
    )


def submitted(*entries) -> list[Submit]:
    sent = (effect.message for effect in propose(*entries).effects if isinstance(effect, Send))
    return [message for message in sent if isinstance(message, Submit)]


@pytest.mark.parametrize(("invoke_at", "execute_at"), [(0, None), (1, 1), (NOW + 60_000, NOW + 60_000)])
def test_a_send_may_be_for_later(invoke_at, execute_at):
    (submit,) = submitted(send(invoke_at=invoke_at))
    assert submit.execute_at == execute_at


def test_each_call_of_a_proposal_gets_its_own_callee_in_order():
    second = replace(send(), id_completion=3)
    assert [submit.id for submit in submitted(call(), second)] == [CHILD, OTHER]


def test_an_idempotency_key_goes_along_and_chooses_the_retention():
    (submit,) = submitted(call(ADD, idempotency_key="once"))
    assert submit.idempotency_key == "once"
    assert (submit.completion_retention_ms, submit.journal_retention_ms) == (3 * DAY, 2 * DAY)


def test_an_idempotency_key_on_a_workflows_run_is_ignored_in_silence():
    (submit,) = submitted(call(RUN, idempotency_key="once"))
    assert submit.idempotency_key is None
    assert (submit.completion_retention_ms, submit.journal_retention_ms) == (4 * DAY, 2 * DAY)


def test_a_scope_goes_along():
    (submit,) = submitted(call(ADD, scope="eu"))
    assert submit.target == replace(ADD, scope="eu")


def test_a_driver_knows_the_place_of_each_entry_before_it_is_stored():
    """A call takes two: its own, and that of the completion which names its callee."""
    entries = (Run(completion=5), call(), RunResult(5, Success(b"ok")), replace(send(), id_completion=3))
    stored = [effect for effect in propose(*entries).effects if isinstance(effect, Append)]
    own = [append.index for append in stored if not isinstance(append.entry, Completion)]
    result = [append.index for append in stored if getattr(append.entry, "of", None) == "Run"]
    assert proposals.places(1, entries) == sorted([*own, *result]) == [1, 2, 4, 5]


# Refused


def refusal(entry, catalog: Catalog = CATALOG) -> Failure:
    """The reason, when nothing of the entry was stored."""
    transition = apply(running(), Propose(INV, 1, (entry,), (CHILD,)), NOW, catalog)
    (effect,) = transition.effects
    assert transition.state == running()
    assert isinstance(effect, Refuse)
    return effect.error


@pytest.mark.parametrize("make", [call, send])
def test_an_unknown_callee_is_retried_until_it_is_served(make):
    assert refusal(make(), Catalog()) == Failure(
        500, "Greeter/greet is not served", (("restate_code", "RT0018"),)
    )
    missing = make(Target("Greeter", "shout"))
    assert refusal(missing).metadata == (("restate_code", "RT0018"),)


@pytest.mark.parametrize("make", [call, send])
@pytest.mark.parametrize("target", [replace(GREET, key="k1"), replace(ADD, key=None), replace(RUN, key=None)])
def test_a_key_belongs_to_keyed_services_and_only_to_them(make, target):
    assert refusal(make(target)).metadata == (("restate_code", "RT0017"),)


@pytest.mark.parametrize("make", [call, send])
@pytest.mark.parametrize("target", [GREET, RUN])
def test_an_empty_idempotency_key_is_refused(make, target):
    assert refusal(make(target, idempotency_key="")) == Failure(
        500, "the idempotency key is empty", (("restate_code", "RT0017"),)
    )


def test_an_empty_object_key_is_a_key():
    (submit,) = submitted(call(replace(ADD, key="")))
    assert submit.target.key == ""


# Retention

KEPT = [
    (HandlerKind.PLAIN, False, (2 * DAY, 2 * DAY)),
    (HandlerKind.PLAIN, True, (3 * DAY, 2 * DAY)),
    (HandlerKind.EXCLUSIVE, True, (3 * DAY, 2 * DAY)),
    (HandlerKind.SHARED, False, (2 * DAY, 2 * DAY)),
    (HandlerKind.WORKFLOW, False, (4 * DAY, 2 * DAY)),
    (HandlerKind.WORKFLOW, True, (4 * DAY, 2 * DAY)),
]


@pytest.mark.parametrize(("kind", "idempotent", "kept"), KEPT)
def test_what_is_kept_follows_the_table_of_retentions(kind, idempotent, kept):
    options = HandlerOptions(
        journal_retention_ms=2 * DAY, idempotency_retention_ms=3 * DAY, workflow_retention_ms=4 * DAY
    )
    assert retention(HandlerMeta(name="h", kind=kind, options=options), idempotent) == kept


@pytest.mark.parametrize("idempotent", [True, False])
def test_a_journal_is_never_kept_longer_than_its_invocation(idempotent):
    short = HandlerOptions(journal_retention_ms=5 * DAY, idempotency_retention_ms=DAY)
    completion, journal = retention(HandlerMeta(name="h", kind=HandlerKind.PLAIN, options=short), idempotent)
    assert (completion, journal) == ((DAY, DAY) if idempotent else (5 * DAY, 5 * DAY))


def test_without_retention_nothing_is_kept():
    none = HandlerOptions(journal_retention_ms=0)
    assert retention(HandlerMeta(name="h", kind=HandlerKind.PLAIN, options=none), False) == (0, 0)
