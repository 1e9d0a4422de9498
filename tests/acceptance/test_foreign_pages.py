"""Pages that a developer visits while his server runs: a real browser, a real server, and somebody's site."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.server import Server, serving
from tests.ui.conftest import CHROMIUM

pytestmark = pytest.mark.slow

TRY_ALL = """
async ([admin, ingress, run]) => {
  const ways = [
    [`${admin}/query`, {method: "POST", body: '{"query": "SELECT 1"}'}],
    [`${admin}/invocations/${run}?mode=kill`, {method: "POST", body: ""}],
    [`${admin}/approvals/a/approve`, {method: "POST", body: '{"digest": "d"}'}],
    [`${admin}/sessions/a/b/messages`, {method: "POST", body: '{"text": "hi"}'}],
    [`${ingress}/Desk/say`, {method: "POST", body: '"hello"'}],
    [`${ingress}/Desk/nothing`, {method: "POST"}],
    [`${ingress}/Desk/nothing`, {}],
    [`${ingress}/approvals`, {}],
  ];
  const told = [];
  for (const [url, how] of ways) {
    await fetch(url, {...how, mode: "no-cors"}).then(() => told.push("sent"), () => told.push("not sent"));
    await fetch(url, how).then(async (answer) => told.push(answer.status), () => told.push("unread"));
  }
  await new Promise((over) => {
    const picture = new Image();
    picture.onload = picture.onerror = over;
    picture.src = `${ingress}/Desk/nothing?picture`;
  });
  return told;
}
"""
READ = "async (url) => (await fetch(url)).status"
CALL = (
    "async (url) => (await fetch(url, {method: 'POST', body: '\"hello\"', headers: {'content-type': "
    "'application/json'}})).text()"
)


class Page(http.server.BaseHTTPRequestHandler):
    """Any site: an empty page, and a form that sends itself when its address is given."""

    def do_GET(self) -> None:
        _, _, target = self.path.partition("?form=")
        form = f'<form method="post" action="{target}"></form><script>document.forms[0].submit()</script>'
        body = (form if target else "<title>a page</title>").encode()
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextmanager
def a_site() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def a_browser() -> Iterator[Any]:
    """One for which every name below `.example` leads to this machine, as its owner could arrange."""
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM:
        pytest.skip("no chromium")
    with playwright.sync_playwright() as running:
        rules = "--host-resolver-rules=MAP *.example 127.0.0.1"
        made = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", rules])
        yield made.new_page()
        made.close()


def calls(server: Server) -> int:
    found = server.operator.get("/invocations", params={"service": "Desk"}).json()["invocations"]
    return len(found)


def test_a_page_of_somebody_s_site_does_nothing_and_reads_nothing(tmp_path: Path):
    with serving(tmp_path) as server, a_site() as port, a_browser() as page:
        admin, ingress = f"http://127.0.0.1:{server.admin}", f"http://127.0.0.1:{server.ingress}"
        run = server.send("/Desk/wait")

        page.goto(f"http://evil.example:{port}/")
        told = page.evaluate(TRY_ALL, [admin, ingress, run])
        assert {answer for answer in told if isinstance(answer, int)} <= {403}, told
        page.goto(f"http://evil.example:{port}/?form={ingress}/Desk/nothing")
        page.wait_for_url(f"{ingress}/**")
        assert "AD0230" in page.content()
        assert (calls(server), server.look(run)["status"]) == (1, "running")

        # The same page, once its name leads to our ports: now they are of its own origin.
        for where in (server.admin, server.ingress):
            page.goto(f"http://evil.example:{where}/services")
            assert "AD0231" in page.content()
            assert page.evaluate(READ, f"http://evil.example:{where}/approvals") == 403
            assert "AD0231" in page.evaluate(CALL, f"http://evil.example:{where}/Desk/say")
        assert calls(server) == 1

        # A chat page that is served on this machine, and the web UI, go on.
        page.goto(f"http://localhost:{port}/")
        assert page.evaluate(CALL, f"{ingress}/Desk/say") == '"hello"'
        assert page.evaluate(READ, f"{ingress}/approvals") == 200
        page.goto(f"http://localhost:{server.admin}/ui/")
        assert page.evaluate(READ, f"/invocations/{run}") == 200
        killed = "async (run) => (await fetch(`/invocations/${run}/kill`, {method: 'PATCH'})).status"
        assert page.evaluate(killed, run) == 200


def test_the_pages_that_are_named_may_call_and_no_others(tmp_path: Path):
    options = ("--set", "cors-origins=http://chat.example", "--set", "allowed-hosts=api.example")
    with serving(tmp_path, *options) as server:
        headers = {"content-type": "application/json", "sec-fetch-site": "cross-site"}
        asked = [
            server.http.post("/Desk/say", content='"hi"', headers={**headers, "origin": origin, "host": host})
            for origin in ("http://chat.example", "http://localhost:3000")
            for host in ("api.example", "other.example")
        ]
        assert [given.status_code for given in asked] == [200, 403, 403, 403]
        assert "AD0231" in asked[1].json()["message"]
        assert "AD0230" in asked[2].json()["message"]
        # The page's author reads why.
        assert asked[2].headers["access-control-allow-origin"] == "http://localhost:3000"
