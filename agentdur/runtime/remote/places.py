"""Where deployments are: how a place is written, and how it is reached."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from agentdur.core.errors import BadRequest
from agentdur.runtime.remote.transport import Address, Function, Place, Transport

PORTS = {"http": 80, "https": 443}
_URI = re.compile(r"[!-~]+")
"""Nothing but what a URI may have: no spaces, and other letters percent-encoded."""
_FUNCTION = re.compile(r"arn:[a-z0-9-]+:lambda:([a-z0-9-]+):\d{12}:function:[A-Za-z0-9_-]+:[A-Za-z0-9_$-]+")
_ROLE = re.compile(r"arn:[a-z0-9-]+:iam::\d{12}:role/[\w+=,.@/-]+")


def normal_uri(uri: str) -> str:
    """With a path; BadRequest when it is no absolute http(s) URI."""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise BadRequest(f"{uri!r} is no URI: {error}") from error
    if parts.scheme not in PORTS or not parts.hostname or port == 0 or not _URI.fullmatch(uri):
        raise BadRequest(f"{uri!r} is no absolute http or https URI")
    if parts.username is not None:  # they would be shown to whoever lists deployments
        raise BadRequest("credentials in a URI are not sent: give an authorization header instead")
    return parts._replace(path=parts.path or "/", fragment="").geturl()


def checked_arn(arn: str, role: str | None) -> str:
    """The function's name; BadRequest when it, or the role's, is none. A function's version or alias is part
    of it: what has begun must go on in the code in which it began."""
    if not _FUNCTION.fullmatch(arn):
        raise BadRequest(f"{arn!r} is no ARN of a Lambda function with a version or an alias at its end")
    if role is not None and not _ROLE.fullmatch(role):
        raise BadRequest(f"{role!r} is no ARN of a role")
    return arn


def is_function(uri: str) -> bool:
    """Whether a stored place is a Lambda function."""
    return uri.startswith("arn:")


def place_of(uri: str, http1: bool, role: str | None) -> Place:
    """Where a normal URI, or a checked ARN, leads."""
    if found := _FUNCTION.fullmatch(uri):
        return Function(uri, found[1], role)
    parts = urlsplit(uri)
    assert parts.hostname is not None
    scheme: Any = parts.scheme
    return Address(
        scheme, parts.hostname, parts.port or PORTS[scheme], parts.path.rstrip("/"), http1, parts.query
    )


def speaks_http1(place: Place) -> bool:
    """Whether it is reached over HTTP/1.1."""
    return isinstance(place, Address) and place.http1


def transport_to(place: Place) -> Transport:
    """How to reach a place. The libraries for it are loaded when there is something to reach."""
    if isinstance(place, Function):
        name, made = "awslambda", "Lambda"
    else:
        name, made = ("http1", "Http1") if place.http1 else ("http2", "Http2")
    try:
        module = import_module(f"agentdur.runtime.remote.{name}")
    except ModuleNotFoundError as error:
        raise BadRequest(f"this needs `pip install 'agentdur[lambda]'` on the server: {error}") from error
    transport: Transport = getattr(module, made)(place)
    return transport
