"""The deployments: where handlers run elsewhere, what they said they serve, and which one gets new calls.

Rules of this file:
1. A deployment is its URI. Registering it again changes nothing, unless it is forced: then it is asked again
   and replaced in place, whatever it serves now.
2. New calls go to the newest revision of a service; what has begun stays where it began.
3. What was said at discovery is stored as it was said; the catalog is computed from it.
4. Connections belong to an address, not to a registration: replacing a deployment interrupts nobody.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from agentdur.core.catalog import Catalog, HandlerOptions, ServiceMeta, is_internal
from agentdur.core.errors import (
    BadRequest,
    ConversionFailed,
    DeploymentInUse,
    DiscoveryFailed,
    UnknownDeployment,
    UnknownService,
)
from agentdur.core.ids import encode_id, ulid
from agentdur.runtime.own import OwnServices, check_retention, merge
from agentdur.runtime.remote.asking import ask
from agentdur.runtime.remote.discover import REASON_BYTES_MAX, discover, negotiated
from agentdur.runtime.remote.places import (
    checked_arn,
    is_function,
    normal_uri,
    place_of,
    speaks_http1,
    transport_to,
)
from agentdur.runtime.remote.transport import Function, Headers, Place, Transport, TransportFailed
from agentdur.runtime.world import World
from agentdur.wire.manifest import (
    NOTHING_SET,
    Manifest,
    Override,
    check_new,
    parse_manifest,
    schemas_of,
    services_of,
)

ZSTD = ("accept-encoding", "zstd")
"""What a function is told that said at discovery that it knows zstd."""
SERDES = ("x-restate-serdes-protocol", "v1")
CLUSTER_HEADER = ("x-restate-cluster-name", "agentdur")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_RESERVED = frozenset({"content-type", "accept", "host", "content-length", "transfer-encoding"})


class Signer(Protocol):
    """Signs requests (`wire.identity`)."""

    def headers(self, path: str) -> dict[str, str]:
        """What a request for `path` carries."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment as it is stored. `uri` may be the ARN of a function, called in a `role`; `created_at` is
    in ms since the epoch."""

    id: str
    uri: str
    content_type: str
    manifest: str
    created_at: int
    revisions: dict[str, int]
    http1: bool = False
    role: str | None = None
    headers: dict[str, str] = {}
    metadata: dict[str, str] = {}
    sdk_version: str | None = None
    overrides: dict[str, Override] = {}


_decode = msgspec.json.Decoder(Record).decode


class Deployment:
    """One deployment in use (`drivers.remote.Served`)."""

    def __init__(
        self, record: Record, defaults: HandlerOptions, signer: Signer | None, connections: Connections
    ) -> None:
        self.record, self.id = record, record.id
        self.address = place_of(record.uri, record.http1, record.role)
        self.manifest: Manifest = parse_manifest(record.content_type, record.manifest.encode())
        self.min_version, self.max_version = (
            self.manifest.min_protocol_version, self.manifest.max_protocol_version,
        )  # fmt: skip
        self.streams = self.manifest.protocol_mode == "BIDI_STREAM"
        self.function = is_function(record.uri)
        self.compresses = self.function and self.manifest.lambda_compression == "zstd"
        self.bidirectional = self.streams and not record.http1 and not self.function
        self.services = services_of(self.manifest, defaults, record.id, record.revisions, record.overrides)
        self._signer, self._connections = signer, connections

    def transport(self) -> Transport:
        """The connections, opened when they are first needed."""
        return self._connections.to(self.address)

    def headers(self, path: str) -> Headers:
        """What every request carries."""
        headers = headers_for(self.record.headers, path, self._signer)
        return [*headers, ZSTD] if self.compresses else headers

    def options(self, service: str, handler: str) -> HandlerOptions:
        """A handler's options; defaults when it is not there any more."""
        meta = self.services.get(service)
        found = None if meta is None else meta.handlers.get(handler)
        return HandlerOptions() if found is None else found.options


class Connections:
    """The transports that are in use, one for each address."""

    def __init__(self) -> None:
        self.open: dict[Place, Transport] = {}

    def to(self, address: Place) -> Transport:
        """The one for the address, made when it is first needed."""
        found = self.open.get(address)
        if found is None:
            found = self.open[address] = transport_to(address)
        return found

    async def close(self) -> None:
        """Drop all."""
        opened, self.open = list(self.open.values()), {}
        for transport in opened:
            await transport.close()


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator asks to be changed; None stays as it is. `overwrite`: the services, too."""

    uri: str | None = None
    http1: bool | None = None
    arn: str | None = None
    role: str | None = None
    headers: dict[str, str] | None = None
    overwrite: bool = False
    dry_run: bool = False


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator asks to be registered: a URI, or the ARN of a function and perhaps a role."""

    uri: str | None = None
    http1: bool = False
    arn: str | None = None
    role: str | None = None
    headers: dict[str, str] = {}
    metadata: dict[str, str] = {}
    force: bool = False
    breaking: bool = False
    dry_run: bool = False
    only_new: bool = False
    """An address that is known is refused, unless it is forced."""


class Deployments:
    """All of them, and what this process serves itself. `save` stores a record (None: forgets it), `keep`
    what was set for a service of this process; both answer when that is durable. `changed` is told of a new
    catalog."""

    def __init__(
        self,
        own: Catalog,
        defaults: HandlerOptions,
        *,
        world: World,
        save: Callable[[str, bytes | None], Any],
        keep: Callable[[str, bytes], Any],
        changed: Callable[[Catalog], None],
        signer: Signer | None = None,
    ) -> None:
        self._own = OwnServices(own)
        self.defaults, self.signer = defaults, signer
        self._world, self._save, self._keep, self._changed = world, save, keep, changed
        self.since = world.now()
        """When this process began to serve, ms since the epoch."""
        self.all: dict[str, Deployment] = {}
        self.connections = Connections()
        self._changing = asyncio.Lock()
        self.running: Callable[[str], bool] = _nothing_runs
        """Whether attempts run at a deployment; the driver sets it."""

    @property
    def own(self) -> Catalog:
        """What this process serves."""
        return self._own.catalog

    def _made(self, record: Record) -> Deployment:
        return Deployment(record, self.defaults, self.signer, self.connections)

    def load(self, records: list[bytes], kept: Iterable[tuple[str, bytes]] = ()) -> None:
        """What was stored, at the start; `kept`: by service of this process."""
        for data in records:
            record = _decode(data)
            self.all[record.id] = self._made(record)
        if self._own.load(kept) or records:
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

    def _at(self, uri: str) -> Deployment | None:
        return next((one for one in self.all.values() if one.record.uri == uri), None)

    async def register(self, asked: Asked) -> tuple[Deployment, bool]:
        """(the deployment, whether it is new). DiscoveryFailed, BadRequest; nothing is changed then."""
        uri = self._normal(asked.uri, asked.arn, asked.role)
        known = self._at(uri)
        if known is not None and not asked.force:
            if asked.only_new:
                raise DiscoveryFailed(f"the deployment {known.id} at {uri} already exists", 409)
            return known, False
        place = await negotiated(place_of(uri, asked.http1, asked.role))
        content_type, manifest, sdk = await self._ask(place, asked.headers)
        async with self._changing:
            known = self._at(uri)
            if known is not None and not asked.force:  # somebody else was faster
                return known, False
            record = Record(
                id=self._fresh_id() if known is None else known.id,
                uri=uri, content_type=content_type, manifest=manifest.decode(), http1=speaks_http1(place),
                role=asked.role,
                headers=_lowered(asked.headers), metadata=asked.metadata, sdk_version=sdk,
                created_at=self._world.now() if known is None else known.record.created_at,
                revisions=self._revisions(parse_manifest(content_type, manifest)),
            )  # fmt: skip
            made = self._made(record)
            self._check(made, breaking=asked.breaking or known is not None)
            if not asked.dry_run:
                await self._put(made)
        return made, known is None

    @staticmethod
    def _normal(uri: str | None, arn: str | None, role: str | None) -> str:
        if uri is not None:
            return normal_uri(uri)
        assert arn is not None, "one of the two is given"
        return checked_arn(arn, role)

    async def _ask(self, place: Place, headers: dict[str, str]) -> tuple[str, bytes, str | None]:
        check_headers(headers)
        said = await discover(transport_to(place), headers_for(headers, "/discover", self.signer))
        manifest = parse_manifest(*said[:2])
        check_new(manifest)
        if schemas := list(schemas_of(manifest)):
            check = import_module("agentdur.runtime.remote.schemas").check_schema
            for handler, schema in schemas:
                check(handler, schema)
        if isinstance(place, Function) and manifest.protocol_mode == "BIDI_STREAM":
            raise DiscoveryFailed(
                "a function answers in one piece: its endpoint cannot stream", 500, "META0015"
            )
        return said

    async def update(self, deployment: str, changes: Changes) -> Deployment:
        """Move it to another address, or send other headers. The endpoint is asked again, and must speak the
        same versions; its services stay as they were registered, unless they are to be overwritten."""
        known = self.get(deployment)
        before = known.record
        if all(
            asked is None
            for asked in (changes.uri, changes.arn, changes.role, changes.http1, changes.headers)
        ):
            return known
        moved = changes.uri is not None or changes.arn is not None
        role = changes.role if moved or changes.role is not None else before.role
        uri = self._normal(changes.uri, changes.arn, role) if moved else before.uri
        http1 = False if moved else before.http1
        http1 = http1 if changes.http1 is None else changes.http1
        headers = before.headers if changes.headers is None else _lowered(changes.headers)
        place = await negotiated(place_of(uri, http1, role))
        content_type, manifest, sdk = await self._ask(place, headers)
        found = parse_manifest(content_type, manifest)
        versions = (found.min_protocol_version, found.max_protocol_version)
        if versions != (known.min_version, known.max_version):
            raise DiscoveryFailed(
                f"it speaks protocol versions {versions[0]} to {versions[1]} now, "
                f"not {known.min_version} to {known.max_version}", 400, "META0016",
            )  # fmt: skip
        async with self._changing:
            if self._at(uri) not in (None, self.get(deployment)):
                raise BadRequest(f"another deployment has the uri {uri}")
            before = self.get(deployment).record
            record = replace(
                before, uri=uri, http1=speaks_http1(place), role=role, headers=headers, sdk_version=sdk
            )
            if changes.overwrite:
                revisions = self._revisions(found) | before.revisions
                record = replace(
                    record, content_type=content_type, manifest=manifest.decode(), overrides={},
                    revisions={one.name: revisions[one.name] for one in found.services},
                )  # fmt: skip
            made = self._made(record)
            self._check(made, breaking=True)
            if not changes.dry_run:
                await self._put(made)
        return made

    async def configure(self, service: str, override: Override) -> ServiceMeta:
        """Set options of a service's newest revision; they hold until the next one, or until it is declared
        otherwise in this process."""
        async with self._changing:
            if service in self.own.services:
                return await self._configured_here(service, override)
            return await self._configured(service, override)

    async def _configured_here(self, service: str, override: Override) -> ServiceMeta:
        kept = self._own.merged(service, override)
        if kept is not None:
            await self._keep(service, kept)
            self._own.put(service, kept)
            self._changed(self.catalog())
        return self.own.services[service]

    async def _configured(self, service: str, override: Override) -> ServiceMeta:
        found = self.find(None, service)
        if found is None:
            raise UnknownService(service)
        meta = found.services[service]
        check_retention(meta, override)
        before = found.record.overrides.get(service, NOTHING_SET)
        merged = merge(before, override)
        if merged != before:
            record = replace(found.record, overrides={**found.record.overrides, service: merged})
            found = self._made(record)
            await self._put(found)
        return found.services[service]

    async def convert(self, service: str, path: str, body: bytes) -> bytes:
        """What the newest deployment of a service makes of a value, `path` being `encode/NAME` or
        `decode/NAME`. UnknownService, BadRequest, ConversionFailed."""
        if service in self.own.services:
            raise BadRequest(
                f"The service '{service}' is served by this process: no endpoint converts its values"
            )
        found = self.find(None, service)
        if found is None:
            raise UnknownService(service)
        whole = f"/serdes/{service}/{path}"
        kind = "application/json" if path.startswith("encode/") else "application/octet-stream"
        headers = [SERDES, ("content-type", kind), *found.headers(whole)]
        try:
            answer = await ask(found.transport(), "POST", whole, headers, body)
        except (TransportFailed, TimeoutError) as error:
            raise ConversionFailed(f"{found.record.uri} did not answer ({error})") from error
        if not 200 <= answer.status < 300:
            told = answer.body[:REASON_BYTES_MAX].decode(errors="replace")
            raise ConversionFailed(f"{found.record.uri} answered with status {answer.status}: {told}")
        return bytes(answer.body)

    def chosen(self, wanted: str, service: str, protocol: int | None) -> Deployment:
        """The one that `latest` or an id names; BadRequest when it cannot go on with the invocation."""
        found = self.find(None, service) if wanted == "latest" else self.all.get(wanted)
        if found is None and wanted == "latest":
            raise BadRequest(f"no deployment serves {service}")
        if found is None:
            raise BadRequest(f"The deployment '{wanted}' does not exist")
        if service not in found.services:
            raise BadRequest(f"The deployment '{found.id}' does not serve {service}")
        if protocol is not None and not found.min_version <= protocol <= found.max_version:
            raise BadRequest(f"The deployment '{found.id}' does not speak protocol V{protocol}")
        return found

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
            if is_internal(name) and name in self.own.services:
                continue  # every deployment brings them along; here, this process' own do the work
            if name in self.own.services:
                raise DiscoveryFailed(f"service {name} is served by this process", 409, "META0006")
            before = catalog.services.get(name)
            if before is not None and before.kind is not meta.kind and not breaking:
                raise DiscoveryFailed(
                    f"service {name} would change from {before.kind.value} to {meta.kind.value}",
                    409, "META0006",
                )  # fmt: skip

    async def _put(self, made: Deployment) -> None:
        await self._save(made.id, msgspec.json.encode(made.record))
        self.all[made.id] = made
        self._changed(self.catalog())

    def check_replaced(self, deployment: str) -> None:
        """DeploymentInUse while new calls go there."""
        found = self.get(deployment)
        newest = [
            name for name in found.services
            if name not in self.own.services and self.find(None, name) is found
        ]  # fmt: skip
        if newest:
            raise DeploymentInUse(f"new calls of {', '.join(newest)} go there")
        if self.running(deployment):
            raise DeploymentInUse("attempts run there")

    async def remove(self, deployment: str) -> None:
        """Forget it. Attempts that run go on; the next one of what is pinned to it fails."""
        async with self._changing:
            self.get(deployment)
            await self._save(deployment, None)
            del self.all[deployment]
            self._changed(self.catalog())

    async def close(self) -> None:
        """Drop all connections."""
        await self.connections.close()


def _nothing_runs(deployment: str) -> bool:
    return False


def check_headers(headers: dict[str, str]) -> None:
    """BadRequest for what is no header, or not the operator's to set."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise BadRequest(f"{name!r} is no header, or its value has characters that no header may have")
        if name.lower() in _RESERVED or name.lower().startswith("x-restate-"):
            raise BadRequest(f"the header {name!r} is the server's own")


def _lowered(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def headers_for(additional: dict[str, str], path: str, signer: Signer | None) -> Headers:
    """The deployment's own headers, the cluster's name, and a signature when there is a key."""
    headers = [*_lowered(additional).items()]
    headers.append(CLUSTER_HEADER)
    if signer is not None:
        headers += signer.headers(path).items()
    return headers
