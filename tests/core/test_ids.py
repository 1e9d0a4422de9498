"""Identifiers, held against ids that a live server of the same format gave out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentdur.core.ids import (
    BUCKETS,
    BadId,
    InvocationId,
    PartitionPrefix,
    awakeable_id,
    bucket_partition_key,
    encode_id,
    idempotent_uuid,
    invocation_id,
    parse_awakeable_id,
    parse_id,
    parse_invocation_id,
    partition_key,
    partition_key_of,
    random_seed,
    raw_invocation_id,
    ulid,
    workflow_uuid,
)

LIVE_RAW = bytes.fromhex("e0c3bc3c87a99157b8438e87c3e79692c178dd59d6557829")
LIVE_ID = InvocationId("inv_17w7URkQxWoM1gfG5hpSwOEV6ss6Q5AYHK")
LIVE_AWAKEABLE = "sign_1tNP0MzQfEO2WTiPyEkPt_p8sEP1a2ErPAAAAEQ"
LIVE_AWAITING = InvocationId("inv_1klSBfLnjVre6j9CbWrSsAeVFXEsDv5y0C")

partition_keys = st.integers(min_value=0, max_value=2**64 - 1)
uuids = st.binary(min_size=16, max_size=16)


def test_a_live_invocation_id_is_written_and_read() -> None:
    assert invocation_id(int.from_bytes(LIVE_RAW[:8], "big"), LIVE_RAW[8:]) == LIVE_ID
    assert raw_invocation_id(LIVE_ID) == LIVE_RAW
    assert parse_invocation_id(LIVE_ID) == LIVE_ID


def test_the_random_seed_of_a_live_invocation() -> None:
    assert random_seed(LIVE_ID) == 16327533247399222435


def test_a_live_awakeable_id_is_written_and_read() -> None:
    assert awakeable_id(LIVE_AWAITING, 17) == LIVE_AWAKEABLE
    assert parse_awakeable_id(LIVE_AWAKEABLE) == (LIVE_AWAITING, 17)


def test_an_awakeable_of_an_older_journal_is_still_read() -> None:
    assert parse_awakeable_id(LIVE_AWAKEABLE.replace("sign", "prom")) == (LIVE_AWAITING, 17)


def test_padding_of_an_awakeable_id_does_no_harm() -> None:
    assert parse_awakeable_id(LIVE_AWAKEABLE + "==") == (LIVE_AWAITING, 17)


LOOKED_UP = [
    (("workflow", "Signup", "w1"), "inv_12kpUQONmeFb11Km8kYitYGzVISS24A1yv"),
    (("workflow", "Signup", ""), "inv_141kvpM925267IaAY3htK5L9QsIYBTkr8b"),
    (("workflow", "Signup", "é,/ x"), "inv_10Kt7sYmI3If5kn6Cd1QUUcnqJMVOpijTC"),
    (("keyed", "Counter", "c1", "add", "ok1"), "inv_1cttqfy89hGI1ZUO9X4hGVmHClatNID8xF"),
    (("keyed", "Counter", "", "add", ""), "inv_141kvpM925262u3dkkwde9iSLKCXWxv2JX"),
    (("plain", "Echo", "echo", "k1"), "inv_1bMRA1oXbedv28z3P0syegQaTgEe5xQNnE"),
    (("plain", "Echo", "echo", ""), "inv_17TZlTU0NnA14AKMxshbMUF1R8Ne5RyVbi"),
    (("plain", "Research", "run", "a b/c,d"), "inv_1l2n14r6gzEK5NMNEGcn60XnLahavO3GTF"),
    (("scoped", "tenant-a", "Echo", "echo", "k1"), "inv_1bCHipEtBoR25EgQNK2XQCOOWpq2amhzxn"),
]


@pytest.mark.parametrize(("target", "expected"), LOOKED_UP)
def test_deterministic_ids_are_those_of_a_live_server(target: tuple[str, ...], expected: str) -> None:
    match target:
        case ("workflow", name, key):
            found = invocation_id(partition_key(name, key, bucket=0), workflow_uuid(name, key))
        case ("keyed", service, key, handler, idempotency_key):
            uuid = idempotent_uuid(service, key, handler, idempotency_key)
            found = invocation_id(partition_key(service, key, bucket=0), uuid)
        case ("plain", service, handler, idempotency_key):
            pk = partition_key(service, None, bucket=0, idempotency_key=idempotency_key)
            found = invocation_id(pk, idempotent_uuid(service, None, handler, idempotency_key))
        case ("scoped", scope, service, handler, idempotency_key):
            pk = partition_key(service, None, bucket=0, scope=scope, idempotency_key=idempotency_key)
            found = invocation_id(pk, idempotent_uuid(service, None, handler, idempotency_key, scope))
        case _:
            raise AssertionError(target)
    assert found == expected


@given(partition_keys, uuids)
def test_an_invocation_id_keeps_its_raw_bytes(pk: int, uuid: bytes) -> None:
    written = invocation_id(pk, uuid)
    assert len(written) == 38
    assert raw_invocation_id(parse_invocation_id(written)) == pk.to_bytes(8, "big") + uuid
    assert partition_key_of(written) == pk
    assert PartitionPrefix(pk).id(uuid) == written


@given(partition_keys, uuids, st.integers(min_value=0, max_value=2**32 - 1))
def test_an_awakeable_id_keeps_its_invocation_and_index(pk: int, uuid: bytes, index: int) -> None:
    invocation = invocation_id(pk, uuid)
    written = awakeable_id(invocation, index)
    assert len(written) == 44
    assert parse_awakeable_id(written) == (invocation, index)


@given(st.sampled_from(["dp", "sub", "snap"]), uuids)
def test_a_resource_id_keeps_its_ulid(prefix: str, raw: bytes) -> None:
    assert parse_id(prefix, encode_id(prefix, raw)) == raw


def test_a_live_deployment_id_is_read() -> None:
    raw = parse_id("dp", "dp_118J68BvmGcGQBjtV8IulcR")
    assert encode_id("dp", raw) == "dp_118J68BvmGcGQBjtV8IulcR"
    assert int.from_bytes(raw[:6], "big") == 1795405524402


@given(uuids, uuids)
def test_invocations_of_one_partition_differ_by_their_uuid(one: bytes, other: bytes) -> None:
    assert (invocation_id(1, one) == invocation_id(1, other)) == (one == other)


BAD_INVOCATION_IDS = {
    "": "bad length",
    "foo": "bad format",
    "abc_1x": "unrecognized resource type: abc",
    "inv_": "bad length",
    "inv_1": "bad length",
    "inv_1abc": "bad length",
    "inv_2abc": "unrecognized codec version",
    "inv_1" + "!" * 11: "base62 decode error",
    LIVE_ID + "x": "bad length",
    LIVE_ID[:-1]: "bad length",
    LIVE_ID.replace("k", "~"): "base62 decode error",
    "inv_1" + "z" * 33: "base62 decode error",
    "inv_1" + "0" * 11 + "Z" * 22: "base62 decode error",
    "sign_1abc": "id doesn't match the expected type",
    "dp_1abc": "id doesn't match the expected type",
}


@pytest.mark.parametrize(("text", "reason"), BAD_INVOCATION_IDS.items())
def test_a_bad_invocation_id_says_where_it_goes_wrong(text: str, reason: str) -> None:
    with pytest.raises(BadId) as bad:
        parse_invocation_id(text)
    assert bad.value.reason == reason
    assert bad.value.text == text


BAD_AWAKEABLE_IDS = {
    "foo": "bad format",
    "abc_1x": "unrecognized resource type: abc",
    "sign_": "bad length",
    "sign_2abc": "unrecognized codec version",
    "sign_1abc": "id doesn't match the expected type",
    "sign_1!!": "id doesn't match the expected type",
    "prom_1abc": "bad length",
    "prom_1!!": "base62 decode error",
    "prom_1é": "base62 decode error",
    "prom_1a": "base62 decode error",
    "inv_1abc": "id doesn't match the expected type",
}


@pytest.mark.parametrize(("text", "reason"), BAD_AWAKEABLE_IDS.items())
def test_a_bad_awakeable_id_says_where_it_goes_wrong(text: str, reason: str) -> None:
    with pytest.raises(BadId) as bad:
        parse_awakeable_id(text)
    assert bad.value.reason == reason


@given(st.text(max_size=50))
def test_any_text_is_an_id_or_refused(text: str) -> None:
    for parse in (parse_invocation_id, parse_awakeable_id, lambda t: parse_id("dp", t)):
        with pytest.raises(BadId):
            parse(text)


@given(st.text(alphabet="0123456789azAZ~é", min_size=30, max_size=36))
def test_any_digits_are_an_id_or_refused(digits: str) -> None:
    try:
        found = parse_invocation_id("inv_1" + digits)
    except BadId:
        return
    assert raw_invocation_id(found)


@given(st.text(), st.integers(min_value=0, max_value=BUCKETS - 1))
def test_all_invocations_of_one_key_share_their_partition_key(key: str, bucket: int) -> None:
    assert partition_key("A", key, bucket=bucket) == partition_key("B", key, bucket=0, idempotency_key="x")


def test_an_unkeyed_service_is_spread_over_its_buckets() -> None:
    keys = {partition_key("S", None, bucket=b) for b in range(BUCKETS)}
    assert len(keys) == BUCKETS
    assert partition_key("S", None, bucket=BUCKETS + 3) == bucket_partition_key("S", 3)


@given(st.text())
def test_an_idempotency_key_always_finds_its_partition_again(key: str) -> None:
    assert partition_key("S", None, bucket=1, idempotency_key=key) == partition_key(
        "S", None, bucket=2, idempotency_key=key
    )


def test_a_scope_decides_the_partition_key_and_separates_identity() -> None:
    assert partition_key("A", "k", bucket=0, scope="t") == partition_key("B", None, bucket=9, scope="t")
    assert workflow_uuid("W", "k") != workflow_uuid("W", "k", "t")
    assert idempotent_uuid("S", None, "h", "i") != idempotent_uuid("S", None, "h", "i", "t")


def test_a_ulid_begins_with_its_time() -> None:
    raw = ulid(1_790_000_000_000, bytes(range(10)))
    assert int.from_bytes(raw[:6], "big") == 1_790_000_000_000
    assert raw[6:] == bytes(range(10))
    with pytest.raises(ValueError, match="10 random bytes"):
        ulid(0, b"short")
