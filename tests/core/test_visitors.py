"""Which web pages may speak to a port: tables of what a browser says with a request."""

from __future__ import annotations

import pytest

from agentdur.core.errors import CrossSite, UnknownHost
from agentdur.core.visitors import Visitors, is_loopback, known_hosts

HOME = Visitors(hosts=frozenset({"ops.example"}))
"""An admin port on loopback, with one name that was given."""
LISTED = Visitors(origins=frozenset({"https://chat.example", "app://desktop"}))
DESK = Visitors(machine=True, hosts=frozenset())
"""An ingress on loopback, without a setting."""


def said(host: str = "localhost:9070", **headers: str) -> dict[bytes, bytes]:
    named = {name.replace("_", "-").encode(): value.encode("latin-1") for name, value in headers.items()}
    return {b"host": host.encode("latin-1"), **named}


@pytest.mark.parametrize(("visitors", "headers"), [
    (HOME, said()),                                                          # a command
    (HOME, said(origin="http://localhost:9070")),
    (HOME, said("OPS.example", origin="https://ops.example")),
    (HOME, said("ops.example:443", origin="https://ops.example")),
    (HOME, said("[::1]:9070", origin="http://[::1]:9070")),
    (HOME, said(sec_fetch_site="same-origin", origin="null")),  # a form of a page without referrers
    (HOME, said("127.0.0.1", sec_fetch_site="same-origin", origin="https://ops.example")),  # a proxy's Host
    (HOME, said(sec_fetch_site="none")),                                     # typed by a person
    (LISTED, said(sec_fetch_site="cross-site", origin="https://chat.example")),
    (LISTED, said(sec_fetch_site="cross-site", origin="app://desktop")),
    (DESK, said(sec_fetch_site="same-site", origin="http://localhost:3000")),
    (DESK, said(sec_fetch_site="cross-site", origin="http://127.0.0.1:3000")),
    (DESK, said(sec_fetch_site="cross-site", origin="http://my.localhost")),
    (DESK, said(sec_fetch_site="same-site")),
    (Visitors(origins=None), said(sec_fetch_site="cross-site", origin="https://evil.example")),
])  # fmt: skip
def test_these_are_served(visitors: Visitors, headers: dict[bytes, bytes]):
    visitors.check_host(headers[b"host"])
    visitors.check_page(headers, safe=False)


@pytest.mark.parametrize(("visitors", "headers"), [
    (HOME, said(origin="https://evil.example")),
    (HOME, said(origin="null")),
    (HOME, said(origin="")),
    (HOME, said(origin="http://localhost:3000")),                            # another program's page
    (HOME, said(origin="https://localhost:9070@evil.example")),
    (HOME, said(origin="http://localhost:9070.evil.example")),
    (HOME, said("ops.example", origin="http://ops.example:8000")),
    (HOME, said("ops.example:80", origin="https://ops.example")),
    (HOME, said("ops.example", origin="https://ops")),
    (HOME, said("ops.example", origin="https://ops.example.evil.example")),
    (HOME, said(sec_fetch_site="cross-site")),
    (HOME, said(sec_fetch_site="same-site")),
    (HOME, said(sec_fetch_site="cross-site", origin="https://evil.example")),
    (LISTED, said(origin="http://chat.example")),
    (LISTED, said(origin="https://chat.example.evil.example")),
    (LISTED, said("localhost:8080", origin="http://localhost:3000")),        # exactly what was listed
    (DESK, said(origin="https://evil.example")),
    (DESK, said(origin="http://localhost.evil.example")),
    (DESK, said(origin="null")),
    (DESK, said(sec_fetch_site="cross-site")),
])  # fmt: skip
def test_these_pages_are_refused(visitors: Visitors, headers: dict[bytes, bytes]):
    with pytest.raises(CrossSite):
        visitors.check_page(headers, safe=False)


def test_what_changes_nothing_is_refused_only_to_a_page_that_could_read_the_answer():
    HOME.check_page(said(sec_fetch_site="cross-site"), safe=True)  # somebody followed a link
    with pytest.raises(CrossSite):
        HOME.check_page(said(sec_fetch_site="cross-site", origin="https://evil.example"), safe=True)


@pytest.mark.parametrize("host", [
    "localhost", "localhost:9070", "LOCALHOST.", "my.localhost:1", "127.0.0.1:9070", "[::1]:9070", "10.0.0.7",
    "ops.example",
])  # fmt: skip
def test_these_names_are_the_server_s_own(host: str):
    HOME.check_host(host.encode())


@pytest.mark.parametrize("host", [
    "evil.example", "evil.example:9070", "localhost.evil.example", "ops.example.evil.example", "",
    "127.0.0.1.evil.example", "localhost:9070:80", "a@localhost", "\xff",
])  # fmt: skip
def test_a_name_that_somebody_else_owns_is_refused(host: str):
    with pytest.raises(UnknownHost):
        HOME.check_host(host.encode("latin-1"))


def test_who_says_no_name_is_no_browser():
    HOME.check_host(None)


@pytest.mark.parametrize(("named", "public", "loopback", "known"), [
    ((), None, True, set()),
    ((), "https://Agents.example/base", True, {"agents.example"}),
    (("Ops.Example",), None, True, {"ops.example"}),
    (("ops.example",), None, False, {"ops.example"}),
    ((), "https://agents.example", False, None),
    (("*",), None, True, None),
])  # fmt: skip
def test_names_are_asked_for_on_loopback_or_when_there_are_some(
    named: tuple[str, ...], public: str | None, loopback: bool, known: set[str] | None
):
    found = known_hosts(named, public, loopback=loopback)
    assert (None if found is None else set(found)) == known


def test_what_only_this_machine_reaches():
    assert [host for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "10.0.0.1", "a.example")
            if is_loopback(host)] == ["127.0.0.1", "::1", "localhost"]  # fmt: skip
