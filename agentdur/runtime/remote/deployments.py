"""The deployments: where handlers run elsewhere, what they said they serve, and which one gets new calls.

Rules of this file:
1. A deployment is its URI. Registering it again changes nothing, unless it is forced: then it is asked again
   and replaced in place.
2. New calls go to the newest revision of a service; what has begun stays where it began.
3. What was said at discovery is stored as it was said; the catalog is computed from it.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from agentdur.core.catalog import Catalog, HandlerOptions, ServiceMeta
from agentdur.core.errors import BadRequest, DiscoveryFailed, UnknownDeployment
from agentdur.core.ids import encode_id, ulid
from agentdur.runtime.remote.discover import discover
from agentdur.runtime.remote.transport import Address, Headers, Transport
from agentdur.runtime.world import World
from agentdur.wire.manifest import Manifest, parse_manifest, services_of

PORTS = {"http": 80, "https": 443}
CLUSTER_HEADER = ("x-restate-cluster-name", "agentdur")
_RESERVED = frozenset({"content-type", "accept", "host", "content-length", "transfer-encoding"})


class Signer(Protocol):
    """Signs requests (`wire.identity`)."""

    def headers(self, path: str) -> dict[str, str]:
        """What a request for `path` carries."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment as it is stored. `created_at` in ms since the epoch."""

    id: str
    uri: str
    content_type: str
    manifest: str
    created_at: int
    revisions: dict[str, int]
    http1: bool = False
    headers: dict[str, str] = {}
    metadata: dict[str, str] = {}
    sdk_version: str | None = None


_decode = msgspec.json.Decoder(Record).decode


class Deployment:
    """One deployment in use (`drivers.remote.Served`)."""

    def __init__(self, record: Record, defaults: HandlerOptions, signer: Signer | None) -> None:
        self.record, self.id = record, record.id
        self.manifest: Manifest = parse_manifest(record.content_type, record.manifest.encode())
        self.min_version, self.max_version = (
            self.manifest.min_protocol_version, self.manifest.max_protocol_version,
        )  # fmt: skip
        self.bidirectional = self.manifest.protocol_mode == "BIDI_STREAM"
        self.services = services_of(self.manifest, defaults, record.id, record.revisions)
        self._signer = signer
        self._transport: Transport | None = None

    def transport(self) -> Transport:
        """The connections, opened when they are first needed."""
        if self._transport is None:
            self._transport = transport_to(address_of(self.record.uri, self.record.http1))
        return self._transport

    def headers(self, path: str) -> Headers:
        """What every request carries."""
        return headers_for(self.record.headers, path, self._signer)

    def options(self, service: str, handler: str) -> HandlerOptions:
        """A handler's options; defaults when it is not there any more."""
        meta = self.services.get(service)
        found = None if meta is None else meta.handlers.get(handler)
        return HandlerOptions() if found is None else found.options

    async def close(self) -> None:
        """Drop the connections."""
        if self._transport is not None:
            await self._transport.close()
            self._transport = None


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator asks to be registered."""

    uri: str
    http1: bool = False
    headers: dict[str, str] = {}
    metadata: dict[str, str] = {}
    force: bool = False
    breaking: bool = False
    dry_run: bool = False


class Deployments:
    """All of them. `save` stores a record (None: forgets it) and answers when that is durable; `changed` is
    told of a new catalog."""

    def __init__(
        self,
        own: Catalog,
        defaults: HandlerOptions,
        *,
        world: World,
        save: Callable[[str, bytes | None], Any],
        changed: Callable[[Catalog], None],
        signer: Signer | None = None,
    ) -> None:
        self.own, self.defaults, self.signer = own, defaults, signer
        self._world, self._save, self._changed = world, save, changed
        self.all: dict[str, Deployment] = {}

    def load(self, records: list[bytes]) -> None:
        """What was stored, at the start."""
        for data in records:
            record = _decode(data)
            self.all[record.id] = Deployment(record, self.defaults, self.signer)
        if records:
            self._changed(self.catalog())

    def catalog(self) -> Catalog:
        """This process's services, and of all others the newest revision."""
        services: dict[str, ServiceMeta] = {}
        for deployment in self.all.values():
            for name, meta in deployment.services.items():
                known = services.get(name)
                if known is None or known.revision < meta.revision:
                    services[name] = meta
        return Catalog({**services, **self.own.services})

    def find(self, deployment: str | None, service: str) -> Deployment | None:
        """By id, or the newest that serves the service."""
        if deployment is not None:
            return self.all.get(deployment)
        newest = [d for d in self.all.values() if service in d.services]
        return max(newest, key=lambda d: d.services[service].revision, default=None)

    def get(self, deployment: str) -> Deployment:
        """By id; UnknownDeployment."""
        found = self.all.get(deployment)
        if found is None:
            raise UnknownDeployment(deployment)
        return found

    async def register(self, asked: Asked) -> tuple[Deployment, bool]:
        """(the deployment, whether it is new). DiscoveryFailed, BadRequest; nothing is changed then."""
        uri = normal_uri(asked.uri)
        known = next((d for d in self.all.values() if d.record.uri == uri), None)
        if known is not None and not asked.force:
            return known, False
        for name in asked.headers:
            if name.lower() in _RESERVED or name.lower().startswith("x-restate-"):
                raise BadRequest(f"the header {name!r} is the server's own")
        content_type, manifest, sdk = await discover(
            transport_to(address_of(uri, asked.http1)), headers_for(asked.headers, "/discover", self.signer)
        )
        record = Record(
            id=self._fresh_id() if known is None else known.id,
            uri=uri, content_type=content_type, manifest=manifest.decode(), http1=asked.http1,
            headers=asked.headers, metadata=asked.metadata, sdk_version=sdk,
            created_at=self._world.now() if known is None else known.record.created_at,
            revisions=self._revisions(parse_manifest(content_type, manifest)),
        )  # fmt: skip
        made = Deployment(record, self.defaults, self.signer)
        self._check(made, breaking=asked.breaking)
        if not asked.dry_run:
            await self._put(made)
        return made, known is None

    def _fresh_id(self) -> str:
        return encode_id("dp", ulid(self._world.now(), self._world.bytes(10)))

    def _revisions(self, manifest: Manifest) -> dict[str, int]:
        newest = {
            name: max(d.services[name].revision for d in self.all.values() if name in d.services)
            for name in {name for d in self.all.values() for name in d.services}
        }
        return {service.name: newest.get(service.name, 0) + 1 for service in manifest.services}

    def _check(self, made: Deployment, *, breaking: bool) -> None:
        catalog = self.catalog()
        for name, meta in made.services.items():
            if name in self.own.services:
                raise DiscoveryFailed(f"service {name} is served by this process", 409, "META0006")
            before = catalog.services.get(name)
            if before is not None and before.kind is not meta.kind and not breaking:
                raise DiscoveryFailed(
                    f"service {name} would change from {before.kind.value} to {meta.kind.value}",
                    409, "META0006",
                )  # fmt: skip

    async def _put(self, made: Deployment) -> None:
        replaced = self.all.get(made.id)
        self.all[made.id] = made
        self._changed(self.catalog())
        await self._save(made.id, msgspec.json.encode(made.record))
        if replaced is not None:
            await replaced.close()

    async def remove(self, deployment: str) -> None:
        """Forget it; what is pinned to it fails from now on, and is tried again."""
        gone = self.get(deployment)
        del self.all[deployment]
        self._changed(self.catalog())
        await self._save(deployment, None)
        await gone.close()

    async def close(self) -> None:
        """Drop all connections."""
        for deployment in self.all.values():
            await deployment.close()


def normal_uri(uri: str) -> str:
    """With a path; BadRequest when it is no absolute http(s) URI."""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise BadRequest(f"{uri!r} is no URI: {error}") from error
    if parts.scheme not in PORTS or not parts.hostname or port == 0:
        raise BadRequest(f"{uri!r} is no absolute http or https URI")
    return parts._replace(path=parts.path or "/", fragment="").geturl()


def address_of(uri: str, http1: bool) -> Address:
    """Where a normal URI leads."""
    parts = urlsplit(uri)
    assert parts.hostname is not None
    scheme: Any = parts.scheme
    return Address(scheme, parts.hostname, parts.port or PORTS[scheme], parts.path.rstrip("/"), http1)


def transport_to(address: Address) -> Transport:
    """Connections to an address. Their libraries are loaded when there is something to connect to."""
    name, made = ("http1", "Http1") if address.http1 else ("http2", "Http2")
    transport: Transport = getattr(import_module(f"agentdur.runtime.remote.{name}"), made)(address)
    return transport


def headers_for(additional: dict[str, str], path: str, signer: Signer | None) -> Headers:
    """The deployment's own headers, the cluster's name, and a signature when there is a key."""
    headers = [(name.lower(), value) for name, value in additional.items()]
    headers.append(CLUSTER_HEADER)
    if signer is not None:
        headers += signer.headers(path).items()
    return headers
