"""Which web pages may speak to a port. Programs may always.

A browser lets any page send requests to any address, and says with each where the page is from. Who is no
browser (a command, an SDK, another server) says nothing of the kind, and is asked for nothing.

Rules of this file:
1. A page is welcome when it is of the port's own origin, of an origin that was named, or of this machine
   where that is said to do.
2. Where names are known, an unknown one is refused: whoever owns a name can let it lead to this machine, and
   his pages would be of our own origin then. An address needs nobody to be asked where it leads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from msgspec import Struct

from agentdur.core.errors import CrossSite, UnknownHost

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
ANY = "*"
"""Instead of a list: whoever it is."""

_AUTHORITY = re.compile(r"(\[[0-9a-f:.%]+\]|[^:@/\\\s]+)(?::([0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_SHOWN_MAX = 200
"""Characters of somebody else's header in a message of ours."""
_HOSTS_KEPT = 256


class Visitors(Struct, frozen=True, kw_only=True):
    """Who is welcome. `origins`: of other pages, None: of all; `machine`: also those of this machine.
    `hosts`: names by which the port may be asked, beside this machine's own; None: any."""

    origins: frozenset[str] | None = frozenset()
    machine: bool = False
    hosts: frozenset[str] | None = None

    def check_host(self, host: bytes | None) -> None:
        """Raises UnknownHost. A request without a name is no browser's."""
        if self.hosts is None or host is None:
            return
        name, anyones = _asked(host)
        if not (anyones or name in self.hosts):
            said = host.decode("latin-1")
            raise UnknownHost(f"{said[:_SHOWN_MAX]!r} is none of this server's names")

    def check_page(self, headers: Mapping[bytes, bytes], safe: bool) -> None:
        """Raises CrossSite. `safe`: the request changes nothing, so that it matters only to a page that could
        read the answer, and a browser says of which origin such a page is."""
        if self.origins is None:
            return
        site = headers.get(b"sec-fetch-site")
        if site in (b"same-origin", b"none"):  # no page can say so itself
            return
        origin = headers.get(b"origin")
        if origin is not None:
            said = origin.decode("latin-1")
            if not self._welcomes(said, headers.get(b"host", b"").decode("latin-1")):
                raise CrossSite(f"a page of {said[:_SHOWN_MAX]!r} sent this")
        elif site is not None and not safe and not (self.machine and site == b"same-site"):
            raise CrossSite("a page of another site sent this")

    def _welcomes(self, origin: str, host: str) -> bool:
        assert self.origins is not None
        origin = origin.lower()
        if origin in self.origins:
            return True
        scheme, _, authority = origin.partition("://")
        name, port = _split(authority)
        if not name:
            return False
        if self.machine and _is_local(name):
            return True
        own_name, own_port = _split(host)
        default = _DEFAULT_PORTS.get(scheme, "")
        return name == own_name and (port or default) == (own_port or default)


def known_hosts(named: Iterable[str], public_url: str | None, *, loopback: bool) -> frozenset[str] | None:
    """For Visitors: the names that were given; None, any, on an address that others reach when none were."""
    given = {name.lower() for name in named}
    if ANY in given or not (given or loopback):
        return None
    public = urlsplit(public_url).hostname if public_url else None
    return frozenset(given | ({public} if public else set()))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a socket with this address or name."""
    return _is_local(host.lower())


@lru_cache(_HOSTS_KEPT)
def _asked(host: bytes) -> tuple[str, bool]:
    """(name, whether no name service is asked for it). Every request says the same few."""
    name = _split(host.decode("latin-1"))[0]
    return name, _is_local(name) or _address(name) is not None


def _is_local(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(name)
    return address is not None and address.is_loopback


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name.strip("[]"))
    except ValueError:
        return None


def _split(authority: str) -> tuple[str, str]:
    """(name, port), each "" when there is none; no name for what is no authority."""
    found = _AUTHORITY.fullmatch(authority.lower())
    return (found[1].removesuffix("."), found[2] or "") if found else ("", "")
