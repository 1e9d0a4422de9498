"""Handlers of this process and of a deployment call each other; objects and workflows may live in either."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentdur import App
from agentdur.core import journal as j
from agentdur.core.ids import InvocationId
from agentdur.core.ports import Filter, Request
from agentdur.runtime.owner import Engine
from agentdur.runtime.remote.deployments import Asked
from tests.http.serving import lent
from tests.remote import both_sides
from tests.remote.both_sides import services

SIDES = pytest.mark.parametrize(("name", "other"), [("Near", "Far"), ("Far", "Near")])


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    both_sides.begun.clear()
    both_sides.undone.clear()
    with lent(App(services("Far", "Near")).endpoint()) as port:
        async with App(services("Near", "Far")).running("memory://") as made:
            await made.deployments.register(Asked(uri=f"http://127.0.0.1:{port}", http1=True))
            yield made


async def call(engine: Engine, service: str, handler: str, given: Any = None) -> Any:
    target = engine.catalog.target(service, handler)
    assert target is not None
    value = b"" if given is None else json.dumps(given).encode()
    _, answer = engine.call(Request(target=target, value=value))
    result = (await asyncio.wait_for(answer, 60)).result
    assert isinstance(result, j.Success), result
    return json.loads(result.value)


@SIDES
async def test_services_call_each_other(engine: Engine, name: str, other: str):
    assert await call(engine, f"{name}Svc", "calls") == [
        f'"{other} hi"', f'"{other} one"', f'"{other} one"', f'"{other} late"', "418 no tea",
    ]  # fmt: skip


@SIDES
async def test_objects_and_workflows_live_on_either_side(engine: Engine, name: str, other: str):
    """One after the other per key, whoever calls; state, promises and awakeables are the server's."""
    sums, state, ended, woken = await call(engine, f"{name}Svc", "keyed", "k")
    assert sums[-1] == 6
    assert len(set(sums)) == 3
    assert json.loads(state) == {"n": 6}
    assert (ended, woken) == ("from here to there", f"woken by {other}")


@pytest.mark.parametrize("action", ["cancel", "kill"])
@SIDES
async def test_what_ends_a_parent_reaches_its_child_on_the_other_side(
    engine: Engine, name: str, other: str, action: Any
):
    target = engine.catalog.target(f"{name}Svc", "parent")
    assert target is not None
    parent, receipt = engine.send(Request(target=target))
    await receipt
    async with asyncio.timeout(60):
        while f"{other} child" not in both_sides.begun:
            await asyncio.sleep(0.005)
        await engine.operate(action, parent)
        ended = (await engine.attach(parent)).result
        (child,) = await engine.list(Filter(service=f"{other}Svc", handler="child"))
        result = (await engine.attach(InvocationId(child["id"]))).result
    word = "killed" if action == "kill" else "cancelled"
    for each in (ended, result):
        assert isinstance(each, j.Failure)
        assert (each.code, each.message) == (409, word)
    assert both_sides.undone == ([] if action == "kill" else [f"{other} child"])
