"""AWS Lambda as a deployment: each exchange is one call of Invoke, the whole request first, then the answer.

Source: the service protocol's Lambda binding (an event with method, path, headers and a base64 body).

Rules of this file:
1. boto3 is synchronous: it runs on threads of this transport, and the receiver hears on the engine's loop.
2. The engine retries; boto3 does not.
"""

from __future__ import annotations

import asyncio
import base64
import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from typing import Any

from boto3.session import Session
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, EndpointConnectionError
from botocore.session import get_session

from agentdur.runtime.remote.transport import Function, Headers, Receiver, TransportFailed

CONCURRENT_MAX = 256
CONNECT_SECONDS_MAX = 10
ANSWER_SECONDS_MAX = 910
"""A function may run for 15 minutes."""
COMPRESSED_BYTES_MIN = 4 * 1024 * 1024
"""Bodies from here on are compressed, where the function can read that: an event has at most 6 MiB."""
DECOMPRESSED_BYTES_MAX = 256 * 1024 * 1024


class Call:
    """One exchange (`transport.Exchange`): sent when it is complete."""

    def __init__(
        self, transport: Lambda, method: str, path: str, headers: Headers, receiver: Receiver
    ) -> None:
        self._transport, self._receiver = transport, receiver
        self._method, self._path, self._headers = method, path, headers
        self._body: list[bytes] = []
        self._over = False

    def write(self, data: bytes) -> None:
        """Kept until the end."""
        self._body.append(data)

    def end(self) -> None:
        """Send it."""
        if not self._over and self._body is not None:
            body, self._body = b"".join(self._body), []
            event = event_for(self._method, self._path, self._headers, body)
            self._transport.invoke(event).add_done_callback(self._answered)

    def consumed(self, size: int) -> None:
        """The answer is there as a whole: nothing waits for room."""

    def abort(self) -> None:
        """Hear nothing more. The function itself cannot be stopped from here."""
        self._over = True

    def _answered(self, done: asyncio.Future[bytes]) -> None:
        if self._over or done.cancelled():
            return
        self._over = True
        try:
            status, headers, body = parse_answer(done.result())
        except TransportFailed as error:
            self._receiver.lost(error)
            return
        self._receiver.response(status, headers)
        if body:
            self._receiver.data(body)
        self._receiver.ended()


class Lambda:
    """Calls of one function (`transport.Transport`)."""

    bidirectional = False

    def __init__(self, function: Function) -> None:
        self._function = function
        self._client: Any = None
        self._threads = ThreadPoolExecutor(CONCURRENT_MAX, "agentdur-lambda")

    def open(self, method: str, path: str, headers: Headers, receiver: Receiver) -> Call:
        """Begin an exchange."""
        return Call(self, method, path, headers, receiver)

    def invoke(self, event: bytes) -> asyncio.Future[bytes]:
        """The payload of the function's answer. TransportFailed."""
        return asyncio.get_running_loop().run_in_executor(self._threads, self._invoke, event)

    async def close(self) -> None:
        """Begin no more calls."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _invoke(self, event: bytes) -> bytes:
        try:
            if self._client is None:
                self._client = client_for(self._function)
            answer = self._client.invoke(
                FunctionName=self._function.arn, InvocationType="RequestResponse", Payload=event
            )
            payload: bytes = answer["Payload"].read()
        except (EndpointConnectionError, ConnectTimeoutError) as error:
            raise TransportFailed("connect", str(error)) from error
        except ClientError as error:  # AWS itself refuses: no such function, not allowed, throttled
            raise TransportFailed("reset", str(error)) from error
        except BotoCoreError as error:
            raise TransportFailed("reset", str(error)) from error
        if "FunctionError" in answer:
            raise TransportFailed("failed", f"the function failed: {payload[:500].decode(errors='replace')}")
        return payload


def client_for(function: Function) -> Any:
    """A client in the function's region, in its role when one is to be assumed. Credentials and addresses
    come from where every AWS client looks for them."""
    config = Config(
        connect_timeout=CONNECT_SECONDS_MAX, read_timeout=ANSWER_SECONDS_MAX,
        retries={"total_max_attempts": 1}, max_pool_connections=CONCURRENT_MAX,
    )  # fmt: skip
    session = get_session()
    if function.role is not None:
        in_region = partial(session.create_client, region_name=function.region)
        fetcher = AssumeRoleCredentialFetcher(
            in_region, session.get_credentials(), function.role,
            extra_args={"RoleSessionName": "agentdur"},
        )  # fmt: skip
        session = get_session()
        session._credentials = DeferredRefreshableCredentials(  # the known way: there is no public one
            fetcher.fetch_credentials, "assume-role"
        )
    return Session(botocore_session=session, region_name=function.region).client("lambda", config=config)


def event_for(method: str, path: str, headers: Headers, body: bytes) -> bytes:
    """The event of a request. A large body is compressed where the function can read that."""
    if len(body) >= COMPRESSED_BYTES_MIN and ("accept-encoding", "zstd") in headers:
        body = import_module("backports.zstd").compress(body)
        headers = [*headers, ("content-encoding", "zstd")]
    return json.dumps(
        {
            "path": path, "httpMethod": method, "headers": dict(headers),
            "body": base64.b64encode(body).decode(), "isBase64Encoded": True,
        }
    ).encode()  # fmt: skip


def parse_answer(payload: bytes) -> tuple[int, dict[str, str], bytes]:
    """(status, headers by lower-case name, body). TransportFailed when it is no answer to a request."""
    try:
        answer = json.loads(payload)
        status = int(answer["statusCode"])
        headers = {name.lower(): str(value) for name, value in (answer.get("headers") or {}).items()}
        text = answer.get("body") or ""
        body = base64.b64decode(text, validate=True) if answer.get("isBase64Encoded") else text.encode()
        if headers.get("content-encoding") == "zstd":
            body = _decompressed(body)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TransportFailed("failed", f"the function's answer cannot be read: {error!r}") from error
    return status, headers, body


def _decompressed(body: bytes) -> bytes:
    zstd = import_module("backports.zstd")
    reader = zstd.ZstdDecompressor()
    try:
        data: bytes = reader.decompress(body, DECOMPRESSED_BYTES_MAX)
    except zstd.ZstdError as error:
        raise ValueError(str(error)) from error
    if not reader.eof:
        raise ValueError("it is cut off, or too large")
    return data
