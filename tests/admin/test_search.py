"""Looking for text over HTTP."""

from __future__ import annotations

import pytest

from tests.admin.conftest import World, quick


async def test_runs_are_found_with_the_words_around_the_text(world: World):
    for text in ("a heron at the lake", "nothing", 'two "Herons"'):
        await world.client.service_call(quick, text)
    found = (await world.http.get("/search", params={"q": "heron"})).json()
    assert [one["run"]["target"] for one in found["runs"]] == ["Work/quick", "Work/quick"]
    assert found["runs"][0]["found"] == [
        {"in": "input", "entry": 0, "count": 1, "excerpt": '"two \\"Herons\\""'},
        {"in": "output", "count": 1, "excerpt": '"two \\"Herons\\""'},
    ]
    assert (found["looked_at"], found["after"], found["cut"]) == (3, None, None)


async def test_places_service_and_pages_are_chosen(world: World):
    for _ in range(3):
        await world.client.service_call(quick, "a heron")
    asked = {"q": "heron", "in": ["output", "answer"], "service": "Work", "limit": 2}
    first = (await world.http.get("/search", params=asked)).json()
    assert [[spot["in"] for spot in one["found"]] for one in first["runs"]] == [["output"], ["output"]]
    assert first["cut"] == "limit"
    rest = (await world.http.get("/search", params=asked | {"after": first["after"]})).json()
    assert len(rest["runs"]) == 1
    assert len({one["run"]["id"] for one in [*first["runs"], *rest["runs"]]}) == 3
    assert (await world.http.get("/search", params={"q": "heron", "service": "Room"})).json()["runs"] == []


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"q": "  "},
        {"q": "x" * 201},
        {"q": "a", "in": "dreams"},
        {"q": "a", "limit": 0},
        {"q": "a", "after": "b"},
    ],
)
async def test_what_cannot_be_looked_for_is_refused(world: World, asked: dict[str, str]):
    assert (await world.http.get("/search", params=asked)).status_code == 400
