"""Ids for new invocations, and the ids that targets, workflow keys and idempotency keys stand for."""

from __future__ import annotations

import base64
import hashlib
from typing import assert_never

from agentdur.core import commands as c
from agentdur.core import journal as j
from agentdur.core.ids import (
    BUCKETS,
    InvocationId,
    PartitionPrefix,
    bucket_partition_key,
    idempotent_uuid,
    partition_key,
    partition_key_of,
    ulid,
    workflow_uuid,
)
from agentdur.core.target import HandlerKind, Target
from agentdur.runtime.world import World

_PREFIXES_MAX = 65_536
_SERVICES_MAX = 1_000


class Names:
    """Makes ids. Deterministic ones are the same for the same request; the others come from the world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._prefixes: dict[int, PartitionPrefix] = {}
        self._spread: dict[str, list[PartitionPrefix | None]] = {}

    def new(self, target: Target, idempotency_key: str | None = None) -> InvocationId:
        """The id of a submission: by workflow key, by idempotency key, else a fresh one."""
        if (
            target.key is None
            and idempotency_key is None
            and not target.scope
            and target.handler_kind is not HandlerKind.WORKFLOW
        ):
            return self._plain(target.service)
        scope = target.scope or None
        if target.handler_kind is HandlerKind.WORKFLOW:
            assert target.key is not None
            uuid = workflow_uuid(target.service, target.key, scope)
        elif idempotency_key is not None:
            uuid = idempotent_uuid(target.service, target.key, target.handler, idempotency_key, scope)
        else:
            uuid = ulid(self._world.now(), self._world.bytes(10))
        bucket = uuid[15] | (uuid[14] & 1) << 8
        assert bucket < BUCKETS
        pk = partition_key(
            target.service, target.key, bucket=bucket, scope=scope, idempotency_key=idempotency_key
        )
        prefix = self._prefixes.get(pk)
        if prefix is None:
            if len(self._prefixes) >= _PREFIXES_MAX:
                self._prefixes.clear()
            prefix = self._prefixes[pk] = PartitionPrefix(pk)
        return prefix.id(uuid)

    def _plain(self, service: str) -> InvocationId:
        """A fresh id in one of the service's buckets, by the way that most ids are made."""
        spread = self._spread.get(service)
        if spread is None:
            if len(self._spread) >= _SERVICES_MAX:  # also names that nobody serves come here
                self._spread.clear()
            spread = self._spread[service] = [None] * BUCKETS
        uuid = ulid(self._world.now(), self._world.bytes(10))
        bucket = uuid[15] | (uuid[14] & 1) << 8
        prefix = spread[bucket]
        if prefix is None:
            prefix = spread[bucket] = PartitionPrefix(bucket_partition_key(service, bucket))
        return prefix.id(uuid)

    def beside(self, invocation: InvocationId) -> InvocationId:
        """A fresh id with the partition of another one (restart as new)."""
        uuid = ulid(self._world.now(), self._world.bytes(10))
        return PartitionPrefix(partition_key_of(invocation)).id(uuid)

    def is_fresh(self, message: c.Submit) -> bool:
        """True when the id cannot exist yet, so that nobody needs to look."""
        return message.idempotency_key is None and message.target.handler_kind is not HandlerKind.WORKFLOW

    def callee(self, call: j.Call | j.OneWayCall, target: Target | None) -> InvocationId:
        """The id a call's callee gets."""
        if target is None:  # it will be refused: the id does not matter
            target = Target(call.service, call.handler, call.key)
        return self.new(target, call.idempotency_key or None)

    def referred(self, target: j.AttachTarget) -> InvocationId:
        """The invocation that an attach means."""
        match target:
            case j.InvocationRef(invocation_id=found):
                return found
            case j.WorkflowRef(name=name, key=key, scope=scope):
                run = Target(name, "run", key, handler_kind=HandlerKind.WORKFLOW, scope=scope)
                return self.new(run)
            case j.IdempotentRef():
                plain = Target(target.service, target.handler, target.key, scope=target.scope)
                return self.new(plain, target.idempotency_key)
            case _:
                assert_never(target)

    def version_of(self, values: dict[str, bytes]) -> str:
        """The version of a key's state that operators send along (admin spec §5)."""
        digest = hashlib.sha256()
        for index, name in enumerate(sorted(values)):
            digest.update(index.to_bytes(8, "big"))
            digest.update(b"\x01" + name.encode() + b"\x02" + values[name] + b"\x03")
        return base64.urlsafe_b64encode(digest.digest()).decode().rstrip("=")
