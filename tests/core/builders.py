"""Invocations in every status, and a small catalog, for stories about the pure core."""

from typing import Any

from msgspec.structs import replace

from agentdur.core.catalog import Catalog, HandlerMeta, HandlerOptions, ServiceMeta
from agentdur.core.commands import ToInvocation
from agentdur.core.effects import Transition
from agentdur.core.ids import InvocationId, invocation_id
from agentdur.core.journal import Awaiting, Failure, Result, Success
from agentdur.core.machine import apply
from agentdur.core.state import Accepted, Head, Invocation, Status, Waiter
from agentdur.core.target import HandlerKind, ObjectAddress, ServiceKind, Target

T0 = 1_700_000_000_000
NOW = T0 + 5_000
DAY = 86_400_000
DONE = Success(b"done")
OOPS = Failure(500, "oops", (("restate_code", "RT0007"),), "line 3")


def inv_id(n: int) -> InvocationId:
    """The id of invocation number `n` of the story."""
    return invocation_id(7, n.to_bytes(16, "big"))


INV = inv_id(1)
CALLER = inv_id(2)
CHILD = inv_id(3)
OTHER = inv_id(4)

GREET = Target("Greeter", "greet")
ADD = Target("Counter", "add", "k1", ServiceKind.VIRTUAL_OBJECT, HandlerKind.EXCLUSIVE)
PEEK = Target("Counter", "peek", "k1", ServiceKind.VIRTUAL_OBJECT, HandlerKind.SHARED)
RUN = Target("Signup", "run", "ann", ServiceKind.WORKFLOW, HandlerKind.WORKFLOW)
APPROVE = Target("Signup", "approve", "ann", ServiceKind.WORKFLOW, HandlerKind.SHARED)
K1 = ObjectAddress("Counter", "k1")
ANN = ObjectAddress("Signup", "ann")

OPTIONS = HandlerOptions(
    journal_retention_ms=2 * DAY, idempotency_retention_ms=3 * DAY, workflow_retention_ms=4 * DAY
)


def service(name: str, kind: ServiceKind, **handlers: HandlerKind) -> ServiceMeta:
    """A service whose handlers all have OPTIONS."""
    metas = {each: HandlerMeta(name=each, kind=of, options=OPTIONS) for each, of in handlers.items()}
    return ServiceMeta(name=name, kind=kind, handlers=metas)


CATALOG = Catalog(
    {
        meta.name: meta
        for meta in (
            service("Greeter", ServiceKind.SERVICE, greet=HandlerKind.PLAIN),
            service(
                "Counter", ServiceKind.VIRTUAL_OBJECT, add=HandlerKind.EXCLUSIVE, peek=HandlerKind.SHARED
            ),
            service("Signup", ServiceKind.WORKFLOW, run=HandlerKind.WORKFLOW, approve=HandlerKind.SHARED),
        )
    }
)


def bits(*ids: int) -> int:
    """A set of completion ids as the aggregate keeps it."""
    return sum(1 << each for each in ids)


def head_with(inv: Invocation, **changes: Any) -> Invocation:
    """The invocation with another head."""
    return replace(inv, head=replace(inv.head, **changes))


def running(
    target: Target = GREET,
    *,
    attempt: int = 1,
    length: int = 1,
    open: tuple[int, ...] = (),
    done: tuple[int, ...] = (),
    **head: Any,
) -> Invocation:
    """An attempt is under way; records are kept for a day, journals for half of it."""
    accepted = Accepted(
        id=INV, target=target, created_at=T0, completion_retention_ms=DAY, journal_retention_ms=DAY // 2
    )
    shown = Head(**{"status": Status.INVOKED, "attempt": attempt, "modified_at": T0, **head})
    return Invocation(accepted, shown, length, bits(*open), bits(*done))


def unretained(inv: Invocation) -> Invocation:
    """Nothing is kept of it once it has ended."""
    return replace(inv, spec=replace(inv.spec, completion_retention_ms=0, journal_retention_ms=0))


def backing_off(target: Target = GREET, *, failures: int = 1, **head: Any) -> Invocation:
    """The attempt failed and the next one comes in half a second."""
    return running(target, failures=failures, retry_at=NOW + 500, last_failure=OOPS, **head)


def suspended_on(*completions: int, target: Target = GREET, **head: Any) -> Invocation:
    """Waits for any of these, which are open; its journal has three entries."""
    awaiting = {"awaiting": Awaiting(completions=completions), "seen": 3, **head}
    return running(target, length=3, open=completions, status=Status.SUSPENDED, **awaiting)


def paused(target: Target = GREET, *, open: tuple[int, ...] = (), **head: Any) -> Invocation:
    """Waits for an operator."""
    return running(target, open=open, status=Status.PAUSED, **head)


def scheduled(target: Target = GREET, **head: Any) -> Invocation:
    """Starts in a minute."""
    inv = running(target, attempt=0, status=Status.SCHEDULED, **head)
    return replace(inv, spec=replace(inv.spec, execute_at=T0 + 60_000))


def pending(**head: Any) -> Invocation:
    """Waits for its key."""
    return running(ADD, attempt=0, status=Status.INBOXED, **head)


def completed(result: Result = DONE, target: Target = GREET, **head: Any) -> Invocation:
    """Has ended with this result a while ago."""
    return running(target, length=4, status=Status.COMPLETED, result=result, completed_at=T0 + 9, **head)


def waiter(invocation: InvocationId = CALLER, completion: int = 2) -> Waiter:
    """A call that waits for the result."""
    return Waiter(invocation, completion)


def say(state: Invocation | None, message: ToInvocation, now: int = NOW) -> Transition[Invocation | None]:
    """Apply a message in the small world of CATALOG."""
    return apply(state, message, now, CATALOG)
