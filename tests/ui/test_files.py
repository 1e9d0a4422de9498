"""The web UI's files: what is served, how, and how much of it there is."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from hashlib import sha256

import httpx
import pytest

from agentdur import App
from agentdur.admin.app import create_admin
from agentdur.ui import refresh_vendor
from agentdur.ui.app import PREFIX, STATIC, serve_ui

BYTES_MAX = 300 * 1000
FILES = sorted(path for path in STATIC.rglob("*") if path.is_file())
OURS = [path for path in FILES if path.suffix == ".js" and path.parent.name != "vendor"]


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with App().running("memory://") as engine:
        admin = create_admin(engine, mounts={PREFIX: serve_ui})
        async with httpx.AsyncClient(transport=httpx.ASGITransport(admin), base_url="http://admin") as client:
            yield client


async def test_the_root_leads_to_the_ui(http: httpx.AsyncClient):
    assert (await http.get("/")).headers["location"] == "/ui/"
    moved = await http.get("/ui")
    assert (moved.status_code, moved.headers["location"]) == (308, "/ui/")


@pytest.mark.parametrize("path", ["/ui/", "/ui/invocations/inv_x", "/ui/objects/S/main.css", "/ui/sql"])
async def test_every_page_is_the_same_document(http: httpx.AsyncClient, path: str):
    given = await http.get(path)
    assert given.status_code == 200
    assert given.headers["content-type"].startswith("text/html")
    assert given.content == (STATIC / "index.html").read_bytes()


async def test_a_file_is_sent_again_only_when_it_has_changed(http: httpx.AsyncClient):
    first = await http.get("/ui/app.js")
    assert first.headers["content-type"].startswith("text/javascript")
    again = await http.get("/ui/app.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert (await http.get("/ui/app.js", headers={"if-none-match": '"other"'})).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/ui/pages/none.js", "/ui/vendor/LICENSES.txt", "/ui/vendor/..%2f..%2fapp.py", "/ui/parts/%00.js"],
)
async def test_what_is_no_file_of_ours_is_not_served(http: httpx.AsyncClient, path: str):
    given = await http.get(path)
    assert given.status_code == 404, given.text[:200]
    assert b"import" not in given.content


async def test_a_name_that_leads_out_of_the_folder_is_a_page(http: httpx.AsyncClient):
    given = await http.get("/ui/..%2fapp.py")
    assert given.content == (STATIC / "index.html").read_bytes()


async def test_nothing_from_elsewhere_may_run(http: httpx.AsyncClient):
    policy = (await http.get("/ui/")).headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    for path in FILES:
        if path.suffix in (".html", ".css", ".svg"):
            text = path.read_text().replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"(?:src|href|url)\s*[=(]\s*[\"']?(?:https?:)?//", text), path.name
            assert "<style" not in text
            assert " style=" not in text, "the policy forbids it"


async def test_the_ui_takes_no_other_method(http: httpx.AsyncClient):
    assert (await http.post("/ui/app.js")).status_code == 405


def test_all_of_it_is_small():
    assert len(OURS) > 10, "no sources were found"
    assert sum(path.stat().st_size for path in FILES) < BYTES_MAX


def test_payloads_never_become_markup():
    for path in OURS:
        found = re.search(
            r"innerHTML|outerHTML|insertAdjacent|dangerously|document\.write|\beval\(", path.read_text()
        )
        assert found is None, f"{path.name}: {found}"


def test_every_import_is_a_file():
    for path in FILES:
        if path.suffix == ".js":
            for name in re.findall(r"^(?:import|export)[^;]*? from ?\"([^\"]+)\"", path.read_text(), re.M):
                assert (path.parent / name).resolve().is_file(), f"{path.name} imports {name}"


def test_the_vendored_libraries_are_what_was_fetched():
    known = json.loads((STATIC / "vendor/manifest.json").read_text())
    assert {one["file"] for one in known} == {module.name for module in refresh_vendor.MODULES}
    for one in known:
        content = (STATIC / "vendor" / one["file"]).read_bytes()
        assert sha256(content).hexdigest() == one["sha256"], one["file"]
        assert one["version"] == refresh_vendor.VERSIONS[one["package"]]
        assert one["licence"] in ("MIT", "Apache-2.0")
