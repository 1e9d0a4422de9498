"""Asking a deployment what it serves."""

from __future__ import annotations

import asyncio
import ssl

from msgspec.structs import replace

from agentdur.core.errors import DiscoveryFailed
from agentdur.runtime.remote.asking import ANSWER_SECONDS_MAX, Answer, ask
from agentdur.runtime.remote.transport import Address, Headers, Place, Transport, TransportFailed
from agentdur.wire.manifest import ACCEPT, parse_manifest

ATTEMPTS_MAX = 4
DELAY_SECONDS = 0.1
REASON_BYTES_MAX = 500
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})


async def negotiated(place: Place) -> Place:
    """The place, with the protocol that its server chooses: over TLS that is what ALPN is for."""
    if not isinstance(place, Address) or place.scheme != "https" or place.http1:
        return place
    offer = ssl.create_default_context()
    offer.set_alpn_protocols(["h2", "http/1.1"])
    try:
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            _, writer = await asyncio.open_connection(place.host, place.port, ssl=offer)
    except (OSError, TimeoutError):
        return place  # discovery tries again, and tells
    chosen = writer.get_extra_info("ssl_object").selected_alpn_protocol()
    writer.close()
    return replace(place, http1=chosen != "h2")


async def discover(transport: Transport, headers: Headers) -> tuple[str, bytes, str | None]:
    """(content type, manifest, the SDK's name and version). DiscoveryFailed after a few tries."""
    try:
        for attempt in range(ATTEMPTS_MAX):
            if attempt:
                await asyncio.sleep(DELAY_SECONDS * 2 ** (attempt - 1))
            last = attempt == ATTEMPTS_MAX - 1
            answer = await _ask(transport, headers, last=last)
            if answer is None or (answer.status in _AGAIN and not last):
                continue
            if not 200 <= answer.status < 300:
                text = answer.body[:REASON_BYTES_MAX].decode(errors="replace")
                said = f"it answered with status {answer.status}{f': {text}' if text else ''}"
                raise DiscoveryFailed(said, 500, "META0003")
            content_type = answer.headers.get("content-type", "")
            body = bytes(answer.body)
            parse_manifest(content_type, body)
            return content_type, body, answer.headers.get("x-restate-server")
    finally:
        await transport.close()
    raise AssertionError("the last attempt answers or raises")


async def _ask(transport: Transport, headers: Headers, *, last: bool) -> Answer | None:
    """One try; None when it is worth another one."""
    try:
        return await ask(transport, "GET", "/discover", [("accept", ACCEPT), *headers])
    except TimeoutError as error:
        raise DiscoveryFailed("it did not answer in time", 500, "META0003") from error
    except TransportFailed as error:
        if error.kind == "protocol" or (error.kind == "reset" and transport.bidirectional and last):
            hint = "it does not speak HTTP/2; register it with use_http_11"
            raise DiscoveryFailed(f"{hint} ({error})", 500, "META0014") from error
        if last or error.kind == "failed":
            raise DiscoveryFailed(f"it cannot be reached: {error}", 500, "META0003") from error
        return None
