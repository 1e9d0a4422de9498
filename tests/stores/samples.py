"""What the store tests speak of: one example of each kind of entry, and short ways to say a row."""

from __future__ import annotations

from typing import Any

from agentdur.core.ids import InvocationId
from agentdur.core.journal import (
    VOID,
    AttachInvocation,
    Call,
    CalleeId,
    ClearAllState,
    ClearState,
    CompleteAwakeable,
    CompletePromise,
    Completion,
    Entry,
    Failure,
    GetEagerState,
    GetEagerStateKeys,
    GetInvocationOutput,
    GetLazyState,
    GetLazyStateKeys,
    GetPromise,
    IdempotentRef,
    Input,
    InvocationRef,
    Keys,
    OneWayCall,
    Output,
    PeekPromise,
    Run,
    SendSignal,
    SetState,
    Signal,
    Sleep,
    Success,
    WorkflowRef,
)
from agentdur.core.ports import Saved
from agentdur.core.state import Accepted, Head, Status
from agentdur.core.target import HandlerKind, ObjectAddress, ServiceKind, Target

T0 = 1_790_000_000_000
CART = ObjectAddress("Cart", "ann")
REFUSED = Failure(409, "sold out", (("shop", "7"),), "at buy()")
CALLEE = InvocationId("inv_1callee")

ENTRIES: dict[str, Entry] = {
    "Input": Input(headers=(("x-user", "ann"),), value=b'{"n":1}'),
    "Output": Output(result=Success(b'"done"')),
    "Output, failed": Output(result=REFUSED),
    "GetEagerState": GetEagerState(key="total", value=b"3", branch="a/0"),
    "GetEagerState, absent": GetEagerState(key="total", value=None),
    "GetLazyState": GetLazyState(key="total", completion=2),
    "SetState": SetState(key="total", value=b""),
    "ClearState": ClearState(key="total"),
    "ClearAllState": ClearAllState(),
    "GetEagerStateKeys": GetEagerStateKeys(keys=("a", "b")),
    "GetLazyStateKeys": GetLazyStateKeys(completion=3),
    "GetPromise": GetPromise(key="approved", completion=4),
    "PeekPromise": PeekPromise(key="approved", completion=5),
    "CompletePromise": CompletePromise(key="approved", result=Success(b"true"), completion=6),
    "CompletePromise, rejected": CompletePromise(key="approved", result=REFUSED, completion=6),
    "Sleep": Sleep(wake_at=T0 + 60_000, completion=7, name="nap"),
    "Call": Call(
        service="Cart", handler="add", key="ann", parameter=b"{}", headers=(("a", "b"),), idempotency_key="k",
        scope="eu", limit_key="l", id_completion=8, completion=9, name="add it", branch="a/0",
    ),
    "Call, least": Call(service="Mail", handler="send", id_completion=1, completion=2),
    "OneWayCall": OneWayCall(service="Mail", handler="send", parameter=b"1", invoke_at=T0, id_completion=10),
    "SendSignal": SendSignal(target=CALLEE, signal="go", outcome=Success(b"1")),
    "SendSignal, cancel": SendSignal(target=CALLEE, signal=1, outcome=VOID),
    "Run": Run(name="charge", completion=11),
    "AttachInvocation": AttachInvocation(target=InvocationRef(CALLEE), completion=12),
    "AttachInvocation, workflow": AttachInvocation(target=WorkflowRef("Signup", "ann", "eu"), completion=12),
    "GetInvocationOutput": GetInvocationOutput(
        target=IdempotentRef("Cart", "add", "k", "ann"), completion=13
    ),
    "CompleteAwakeable": CompleteAwakeable(awakeable="sign_1x", result=Success(b"")),
    "CompleteAwakeable, rejected": CompleteAwakeable(awakeable="sign_1x", result=REFUSED),
    "RunCompletion": Completion(11, "Run", Success(b'{"paid":true}')),
    "RunCompletion, with meta": Completion(11, "Run", Success(b"1"), '{"model":"m","tokens":7}'),
    "RunCompletion, failed": Completion(11, "Run", REFUSED, '{"tool":"t"}'),
    "SleepCompletion": Completion(7, "Sleep", VOID),
    "CallIdCompletion": Completion(8, "CallId", CalleeId(CALLEE)),
    "CallCompletion": Completion(9, "Call", REFUSED),
    "GetStateCompletion": Completion(2, "GetState", Success(b"")),
    "GetStateKeysCompletion": Completion(3, "GetStateKeys", Keys(("a", "b"))),
    "GetStateKeysCompletion, none": Completion(3, "GetStateKeys", Keys()),
    "GetPromiseCompletion": Completion(4, "GetPromise", Success(b"true")),
    "PeekPromiseCompletion": Completion(5, "PeekPromise", VOID),
    "CompletePromiseCompletion": Completion(6, "CompletePromise", VOID),
    "AttachCompletion": Completion(12, "Attach", Success(b"1")),
    "OutputCompletion": Completion(13, "Output", VOID),
    "Signal": Signal(17, Success(b"yes")),
    "Signal, named": Signal("go", VOID),
    "Signal, failed": Signal("go", REFUSED),
}  # fmt: skip
"""By name; what stands before the comma is the kind it is stored under."""


def invocation_id(number: int) -> InvocationId:
    """A short, recognisable id."""
    return InvocationId(f"inv_1{number:04}")


def accepted(number: int, key: str | None = None, **given: Any) -> Accepted:
    """What was accepted; a key makes it an object's."""
    target = Target("Mail", "send")
    if key is not None:
        target = Target("Cart", "add", key, ServiceKind.VIRTUAL_OBJECT, HandlerKind.EXCLUSIVE)
    return Accepted(**{"id": invocation_id(number), "target": target, "created_at": T0} | given)


def new(number: int, status: Status = Status.INVOKED, key: str | None = None, **head: Any) -> Saved:
    """The first row of an invocation; its number is its seq."""
    return Saved(number, accepted(number, key), Head(status=status, modified_at=T0, **head), True, True)


def ended(number: int, key: str | None = None, *, expires_at: int | None = None, kept: bool = True) -> Saved:
    """The last row of an invocation."""
    head = Head(
        status=Status.COMPLETED, modified_at=T0 + 5, completed_at=T0 + 5, result=Success(b'"done"')
    )  # fmt: skip
    return Saved(number, accepted(number, key), head, False, kept, expires_at, expires_at)
