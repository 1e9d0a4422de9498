"""Words as bytes: a captured exchange, everything there and back, and bytes that mean nothing."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentdur.core import journal as j
from agentdur.core.errors import FutureTooDeep, MessageTooLarge, ProtocolError, ProtocolViolation
from agentdur.core.ids import InvocationId
from agentdur.wire import messages as m
from agentdur.wire.codec import decode, encode
from agentdur.wire.commands import COMMANDS
from agentdur.wire.control import CONTROLS
from agentdur.wire.frames import REQUESTED_ACK, Frame, FrameReader, pack
from agentdur.wire.notifications import NOTIFICATIONS
from agentdur.wire.proto import put_blob
from agentdur.wire.values import COMPLETION_MAX, DURATION_MS_MAX, INSTANT_MS_MAX
from tests.support.examples import examples

# A handler that makes one step, driven by a reference server over HTTP/1.1 (V6).
REQUEST_1 = bytes.fromhex(
    "00000000000000530a18e0c3bc3c87a99157b8438e87c3e79692c178dd59d65578291226696e765f3137773755526b5178576f4d"
    "3167664735687053774f45563673733651354159484b18012801400548a3b9f1acb49fc3cbe20104000000000000670a250a1678"
    "2d726573746174652d696e67726573732d70617468120b2f483252522f67726565740a200a0c636f6e74656e742d747970651210"
    "6170706c69636174696f6e2f6a736f6e0a130a0e636f6e74656e742d6c656e677468120135720"
    "70a0522426f6222"
)
RESPONSE_1 = bytes.fromhex(
    "0411000000000006580162026d6b0005000000000008080172042268692200010000000000060a0101120101"
)
REPLAYED = bytes.fromhex("0411000000000006580162026d6b801100000000000a08012a060a0422686922")
RESPONSE_2 = bytes.fromhex("040100000000000c720a0a0822686920426f62220003000000000000")

EXCHANGE = [
    (
        REQUEST_1,
        [
            m.Start(
                id=bytes.fromhex("e0c3bc3c87a99157b8438e87c3e79692c178dd59d6557829"),
                debug_id="inv_17w7URkQxWoM1gfG5hpSwOEV6ss6Q5AYHK", known_entries=1, partial_state=True,
                duration_ms=5, random_seed=16327533247399222435,
            ),
            j.Input(
                headers=(
                    ("x-restate-ingress-path", "/H2RR/greet"), ("content-type", "application/json"),
                    ("content-length", "5"),
                ),
                value=b'"Bob"',
            ),
        ],
    ),
    (
        RESPONSE_1,
        [
            j.Run(completion=1, name="mk"),
            m.ProposeRunCompletion(1, j.Success(b'"hi"')),
            m.Suspension(j.Awaiting((1,), (1,))),
        ],
    ),
    (REPLAYED, [j.Run(completion=1, name="mk"), j.Completion(1, "Run", j.Success(b'"hi"'))]),
    (RESPONSE_2, [j.Output(result=j.Success(b'"hi Bob"')), m.End()]),
]  # fmt: skip


@pytest.mark.parametrize(("data", "words"), EXCHANGE)
def test_a_captured_exchange_is_read_and_written_byte_by_byte(data: bytes, words: list[Any]):
    reader = FrameReader()
    assert [decode(frame, 6) for frame in reader.feed(data)] == words
    reader.done()
    assert b"".join(encode(word, 6) for word in words) == data


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
some = names.filter(bool)
ids = st.integers(1, COMPLETION_MAX)
u64 = st.integers(0, 2**64 - 1)
instants = st.integers(0, INSTANT_MS_MAX)
data = st.binary(max_size=40)
failures = st.builds(
    j.Failure, st.integers(0, 65535), names, st.lists(st.tuples(names, names), max_size=2).map(tuple)
)
results = st.builds(j.Success, data) | failures
outcomes = st.just(j.VOID) | results
headers = st.lists(st.tuples(names, names), max_size=3).map(tuple)
maybe = st.none() | names
keys = st.none() | some
invocations = some.map(InvocationId)
signals = st.integers(0, 2**32 - 1) | names
refs = (
    st.builds(j.InvocationRef, invocations)
    | st.builds(j.WorkflowRef, some, names, names)
    | st.builds(j.IdempotentRef, some, some, names, keys, names)
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "name": names, "headers": headers, "value": data, "result": results, "key": names, "completion": ids,
    "id_completion": ids, "wake_at": instants, "invoke_at": instants, "service": some, "handler": some,
    "parameter": data, "idempotency_key": maybe, "scope": names, "limit_key": names, "signal": signals,
    "outcome": outcomes, "awakeable": names,
}  # fmt: skip
OWN: dict[type, dict[str, st.SearchStrategy[Any]]] = {
    j.GetEagerState: {"value": st.none() | data},
    j.GetEagerStateKeys: {"keys": st.lists(names, max_size=3).map(tuple)},
    j.Call: {"key": keys}, j.OneWayCall: {"key": keys},
    j.SendSignal: {"target": invocations},
    j.AttachInvocation: {"target": refs}, j.GetInvocationOutput: {"target": refs},
}  # fmt: skip


def commands(word: type) -> st.SearchStrategy[Any]:
    own = OWN.get(word, {})
    wanted = [name for name in word.__struct_fields__ if name != "branch"]
    return st.builds(word, **{name: own[name] if name in own else FIELDS[name] for name in wanted})


leaves = st.builds(
    j.Awaiting, st.lists(ids, max_size=3).map(tuple), st.lists(signals, min_size=1, max_size=3).map(
        lambda found: (*[s for s in found if isinstance(s, int)], *[s for s in found if isinstance(s, str)])
    ), st.just(()), st.sampled_from(j.Combinator),
)  # fmt: skip
trees = st.recursive(
    leaves,
    lambda inner: st.builds(
        j.Awaiting, st.just(()), st.just(()), st.lists(inner, min_size=1, max_size=3).map(tuple),
        st.sampled_from(j.Combinator),
    ),
    max_leaves=6,
)  # fmt: skip
notifications = st.builds(
    j.Completion, ids, st.sampled_from(sorted(get_args(j.CompletionOf))),
    outcomes | st.builds(j.CalleeId, invocations) | st.builds(j.Keys, st.lists(names, max_size=3).map(tuple)),
) | st.builds(j.Signal, signals, outcomes)  # fmt: skip
controls = (
    st.builds(
        m.Start, id=data, debug_id=names, known_entries=st.integers(0, 2**32 - 1),
        state=st.lists(st.tuples(names, data), max_size=3).map(tuple), partial_state=st.booleans(), key=names,
        retry_count=st.integers(0, 99), duration_ms=u64, random_seed=st.integers(1, 2**64 - 1),
        scope=maybe, limit_key=maybe, idempotency_key=maybe,
    )
    | st.builds(m.Suspension, trees)
    | st.builds(m.AwaitingOn, trees, st.booleans())
    | st.builds(
        m.Error, code=st.integers(0, 999), message=names, stacktrace=names,
        related_command_index=st.none() | u64, related_command_name=maybe,
        related_command_type=st.none() | u64, next_retry_delay_ms=st.none() | st.integers(0, DURATION_MS_MAX),
        behavior=st.sampled_from(["retry", "pause", "fail"]),
    )
    | st.builds(m.CommandAck, u64)
    | st.builds(m.ProposeRunCompletion, ids, results)
    | st.builds(m.ProposeRunCompletionAck, ids)
)  # fmt: skip
words = st.one_of([commands(row.word) for row in COMMANDS.values()]) | notifications | controls


@settings(max_examples=examples(600), suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(words, st.booleans())
def test_what_is_written_is_read_as_the_same_word(word: Any, ack: bool):
    """In the newest version, which can say everything."""
    acknowledged = ack and isinstance(word, j.Command | m.ProposeRunCompletion)
    frame = FrameReader().feed(encode(word, 7, REQUESTED_ACK if acknowledged else 0))[0]
    assert decode(frame, 7) == word
    assert pack(*frame[:2], frame[2]) == encode(word, 7, frame.flags)  # and canonical


@settings(max_examples=examples(300), suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(commands(j.Run) | commands(j.Call), some, some)
def test_a_branch_travels_in_the_name_where_another_engine_keeps_the_journal(
    word: Any, name: str, branch: str
):
    made = type(word)(
        **{f: getattr(word, f) for f in word.__struct_fields__} | {"name": name, "branch": branch}
    )
    if " ⑂ " in branch:
        return  # a branch is named after coroutines: it has no blanks
    frame = FrameReader().feed(encode(made, 6, branches=True))[0]
    plain = decode(frame, 6)
    assert isinstance(plain, j.Command)
    assert plain.name == f"{name} ⑂ {branch}"
    assert encode(plain, 6) == encode(made, 6, branches=True)
    if version_has_all(made):
        assert decode(frame, 6, branches=True) == made


def version_has_all(word: Any) -> bool:
    return not (getattr(word, "scope", "") or getattr(word, "limit_key", ""))


@given(st.lists(st.binary(max_size=30), max_size=6), st.lists(st.integers(0, 200), max_size=8))
def test_frames_may_be_cut_anywhere(bodies: list[bytes], cuts: list[int]):
    stream = b"".join(pack(0x0400 + n, body) for n, body in enumerate(bodies))
    reader, frames, last = FrameReader(), [], 0
    for cut in [*sorted(min(cut, len(stream)) for cut in cuts), len(stream)]:
        frames += reader.feed(stream[last:cut])
        last = cut
    reader.done()
    assert frames == [Frame(0x0400 + n, body) for n, body in enumerate(bodies)]


def test_a_message_over_the_limit_is_refused_before_it_is_there():
    reader = FrameReader(100)
    with pytest.raises(MessageTooLarge):
        reader.feed(pack(0x0400, b"x" * 101)[:8])


def test_a_stream_that_ends_within_a_message_is_told():
    reader = FrameReader()
    assert reader.feed(pack(0x0400, b"abc")[:-1]) == []
    with pytest.raises(ProtocolViolation):
        reader.done()


@settings(max_examples=examples(1500), deadline=None)
@given(
    st.sampled_from([*COMMANDS, *CONTROLS, *NOTIFICATIONS, 0x040F, 0x1234]), st.binary(max_size=60),
    st.sampled_from([0, REQUESTED_ACK, 1, 0x4000]), st.sampled_from([5, 6, 7]), st.booleans(),
)  # fmt: skip
def test_bytes_from_anywhere_are_a_word_or_a_violation(
    kind: int, body: bytes, flags: int, version: int, branches: bool
):
    """Nothing else is ever raised, and what was read can be written again."""
    try:
        word = decode(Frame(kind, body, flags), version, branches=branches)
    except ProtocolError:
        return
    encode(word, version)


@settings(max_examples=examples(800), suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(words, st.data())
def test_a_message_with_a_wrong_byte_is_a_word_or_a_violation(word: Any, draw: st.DataObject):
    frame = FrameReader().feed(encode(word, 7))[0]
    if not frame.body:
        return
    at = draw.draw(st.integers(0, len(frame.body) - 1))
    body = frame.body[:at] + draw.draw(st.binary(max_size=3)) + frame.body[at + 1 :]
    try:
        again = decode(Frame(frame.type, body), 7)
    except ProtocolError:
        return
    encode(again, 7)


BROKEN = [
    (0x040F, "", 0),  # unused
    (0x0411, "", 0),  # a step without an id
    (0x0411, "5800", 0),  # id 0
    (0x0411, "58ffffff7f", 0),  # an id that would take 33 MB of bits
    (0x0411, "5801", 1),  # a flag of V1
    (0x0003, "", REQUESTED_ACK),  # only commands are acknowledged
    (0x0001, "", 0),  # suspended on nothing
    (0x0401, "", 0),  # an answer without result
    (0x0407, "0a0161", 0),  # a read without answer
    (0x040D, "0a0153", 0),  # a call without handler
    (0x0410, "0a0169", 0),  # a signal without index or name
    (0x0412, "5801", 0),  # attached to nothing
    (0x0402, "0a01ff5801", 0),  # a key that is not UTF-8
    (0x8011, "0801", 0),  # completed by nothing
    (0x0005, "0801", 0),
    (0x0403, "0aff", 0),  # cut
    (0x0403, "0bff", 0),  # groups are gone
    (0x0403, "80808080808080808080808001", 0),  # a number without end
]


@pytest.mark.parametrize(("kind", "body", "flags"), BROKEN)
def test_what_the_protocol_does_not_allow_is_refused(kind: int, body: str, flags: int):
    with pytest.raises(ProtocolViolation):
        decode(Frame(kind, bytes.fromhex(body), flags), 6)


def test_fields_of_v5_in_v7_wait_for_nothing():
    """A suspension of V7 has its tree in field 4; the flat lists there are not looked at."""
    with pytest.raises(ProtocolViolation):
        decode(Frame(0x0001, bytes.fromhex("0a01011201 01")), 7)


def test_unknown_fields_are_passed_over():
    """A later version may add some."""
    body = (
        bytes.fromhex("5801")
        + bytes.fromhex("a20601ff")
        + bytes.fromhex("fd0600000000")
        + b"\xf1\x06"
        + b"x" * 8
    )
    assert decode(Frame(0x0411, body), 6) == j.Run(completion=1)


def test_a_failure_code_that_no_status_can_be_is_500():
    body = put_blob(15, bytes.fromhex("08808004"))  # 65536
    assert decode(Frame(0x0401, body), 6) == j.Output(result=j.Failure(500, ""))


def test_empty_void_and_absent_are_three_things():
    empty = j.GetEagerState(key="a", value=b"")
    absent = j.GetEagerState(key="a", value=None)
    assert encode(empty, 6) != encode(absent, 6)
    for word in (
        empty,
        absent,
        j.Completion(1, "GetState", j.VOID),
        j.Completion(1, "GetState", j.Success(b"")),
    ):
        assert decode(FrameReader().feed(encode(word, 6))[0], 6) == word


def test_a_tree_that_is_too_deep_is_told_apart():
    """It pauses the invocation; a violation would be tried again for ever."""
    tree = b"\x0a\x01\x01"
    for _ in range(300):
        tree = put_blob(4, tree)
    with pytest.raises(FutureTooDeep):
        decode(Frame(0x0001, put_blob(4, tree)), 7)


def test_v5_has_no_metadata_of_failures_and_no_seed():
    failure = j.Output(result=j.Failure(418, "teapot", (("kind", "pot"),)))
    read = decode(FrameReader().feed(encode(failure, 5))[0], 5)
    assert read == j.Output(result=j.Failure(418, "teapot"))
    assert decode(FrameReader().feed(encode(m.Start(id=b"x", random_seed=7), 5))[0], 5) == m.Start(id=b"x")
