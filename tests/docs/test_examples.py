"""What the documents show is true: their programs run, their commands exist, their links lead somewhere.

A block under `<!-- file: NAME -->` is written to that file and run by a story below; all other Python blocks
must at least be Python.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from agentdur import (
    Context,
    ObjectContext,
    ObjectSharedContext,
    WorkflowContext,
    WorkflowSharedContext,
)
from agentdur.core import errors
from agentdur.testing.scripted_llm import ScriptedLLM, ToolCall, Turn, requests
from agentdur.tools import run_tools as real_run_tools
from examples.agents.demo_world import pages_served

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
TUTORIAL = ROOT / "docs/tutorial/first-agent.md"
CONTEXT_PAGE = ROOT / "docs/reference/context.md"
CLI_PAGE = ROOT / "docs/reference/cli.md"
PAGES = sorted([README, *(ROOT / "docs").rglob("*.md")])
LATER: set[str] = set()
"""Pages that are linked to and not written yet."""

_FILE = re.compile(
    r"<!-- file: (?P<name>[\w.]+) -->\n```python\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_COMMAND = re.compile(r"^\$ agentdur (.*)$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[\w-]*)?\)")


def files_of(page: Path) -> list[tuple[str, str]]:
    """(name, text) of the files the page shows, in its order."""
    return [(found["name"], found["code"]) for found in _FILE.finditer(page.read_text(encoding="utf-8"))]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in; modules that were imported from it are forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def module(desk: Path, page: Path, name: str, which: int = 0) -> ModuleType:
    """Import the `which`-th version of a file of the page."""
    texts = [text for file, text in files_of(page) if file == name]
    (desk / name).write_text(texts[which], encoding="utf-8")
    sys.modules.pop(name.removesuffix(".py"), None)
    importlib.invalidate_caches()
    return importlib.import_module(name.removesuffix(".py"))


PRICES = [
    Turn(tool_calls=tuple(ToolCall(name="price", arguments={"article": a}) for a in ("desk", "lamp"))),
    Turn(text="A desk and two lamps cost 328 euros."),
]


async def test_the_agent_of_the_readme_runs(desk: Path, llm: ScriptedLLM):
    llm.replace(PRICES)
    shop = module(desk, README, "shop.py")
    async with shop.app.running("memory://") as engine:
        answer = await engine.client().service_call(shop.answer, "What do a desk and two lamps cost?")
    assert answer == PRICES[1].text
    assert [entry.outcome for entry in requests(llm.ledger())] == ["answered", "answered"]


async def test_the_writer_of_the_budgets_page_stays_within_its_budget(desk: Path, llm: ScriptedLLM):
    llm.replace([Turn(text="Short.")])
    spending = module(desk, ROOT / "docs/how-to/budgets.md", "spending.py")
    async with spending.app.running("memory://") as engine:
        assert await engine.client().service_call(spending.write, "rain") == "Short. (2 calls)"


def test_the_agent_of_the_readme_is_short():
    (text,) = [text for file, text in files_of(README) if file == "shop.py"]
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) <= 17


async def test_embedded_as_the_readme_says_it_answers_once(desk: Path, llm: ScriptedLLM):
    """Run twice, asked once: the idempotency key is the same and the file remembers."""
    llm.replace(PRICES)
    module(desk, README, "shop.py")
    embedded = module(desk, README, "embedded.py")
    assert [await embedded.main(), await embedded.main()] == [PRICES[1].text] * 2
    assert len(requests(llm.ledger())) == 2


async def test_mounted_as_the_readme_says_it_answers(desk: Path, llm: ScriptedLLM):
    llm.replace(PRICES)
    module(desk, README, "shop.py")
    mounted = module(desk, README, "mounted.py")

    web = mounted.web
    http = httpx.AsyncClient(transport=httpx.ASGITransport(web), base_url="http://web")
    async with web.router.lifespan_context(web), http:
        reply = await http.post("/agents/Shop/answer", json="What does a desk cost?")
    assert reply.json() == PRICES[1].text


async def test_the_tutorial_s_handler_asks_the_model(desk: Path, llm: ScriptedLLM):
    agent = module(desk, TUTORIAL, "agent.py", 0)
    async with agent.app.running("memory://") as engine:
        assert await engine.client().service_call(agent.run, agent.Question(text="Why?")) == "hello"


@pytest.mark.slow
async def test_the_tutorial_s_agent_reads_and_computes(desk: Path, llm: ScriptedLLM):
    with pages_served({}) as pages:
        read = [
            ToolCall(name="read_page", arguments={"url": f"{pages}/{name}"}) for name in ("bergen", "lisbon")
        ]
        ratio = ToolCall(name="ratio", arguments={"a": 2495, "b": 774})
        llm.replace([Turn(tool_calls=tuple(read)), Turn(tool_calls=(ratio,)), Turn(text="3.2 times")])
        agent = module(desk, TUTORIAL, "agent.py", 1)
        async with agent.app.running("memory://") as engine:
            sent = await engine.client().service_send(agent.run, agent.Question(text="How wet?"))
            assert await engine.client().attach(sent.invocation_id, agent.run) == "3.2 times"
            shown = await engine.describe(sent.invocation_id)
    assert shown is not None
    answers = [e["value"]["content"] for e in shown["journal"] if "tool" in e.get("meta", {})]
    assert sorted(answer[:6] for answer in answers) == ["3.2235", "Bergen", "Lisbon"]


async def test_the_tutorial_s_refund_is_paid_once_per_key(desk: Path):
    refund = module(desk, TUTORIAL, "refund.py")
    approve = module(desk, TUTORIAL, "approve.py")
    service = approve.Service("Refunds")

    @service.handler()
    async def run(ctx: Context) -> str:
        return str(await ctx.run("refund", refund.refund.function, "o-1", 5.0))

    async with approve.App(services=[service]).running("memory://") as engine:
        assert "5.00 euros" in await engine.client().service_call(run)
    assert list(refund.PAID.values()) == [5.0]


@pytest.mark.parametrize(
    ("approved", "told"), [(True, "5.00 euros"), (False, "Error: not approved: too much")]
)
async def test_the_tutorial_s_refund_waits_for_a_person(
    desk: Path, llm: ScriptedLLM, monkeypatch: pytest.MonkeyPatch, approved: bool, told: str
):
    """The answer reaches the model as the tool's result."""
    llm.replace(
        [
            Turn(tool_calls=(ToolCall(name="refund", arguments={"order": "o-1", "euros": 5}),)),
            Turn(text="done"),
        ]
    )
    approve = module(desk, TUTORIAL, "approve.py")
    heard: list[str] = []

    async def run_tools(*given: Any) -> list[dict[str, Any]]:
        messages = await real_run_tools(*given)
        heard.extend(message["content"] for message in messages)
        return messages

    monkeypatch.setattr(approve, "run_tools", run_tools)
    async with asyncio.timeout(30), approve.app.running("memory://") as engine:
        sent = await engine.client().service_send(approve.answer, "I want my money back")
        client = engine.client()
        while not (asked := await client.approvals()):
            await asyncio.sleep(0.01)
        assert asked[0].question == "Refund 5.0 euros for o-1?"
        decide = client.approve if approved else client.reject
        await decide(asked[0].id, asked[0].digest, reason="too much", by="Ada")
        assert await engine.client().attach(sent.invocation_id, approve.answer) == "done"
    assert len(heard) == 1
    assert told in heard[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_looks_like_python_is_python(page: Path):
    for block in _PYTHON.findall(page.read_text(encoding="utf-8")):
        compile(textwrap.dedent(block), str(page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)


def test_every_command_that_is_shown_exists_with_its_options():
    """Against the generated reference of the command, which its own test keeps true."""
    reference = CLI_PAGE.read_text(encoding="utf-8")
    sections = dict(
        re.findall(
            r"^## `agentdur ([a-z -]+?)(?: [[A-Z].*?)?`\n(.*?)(?=^## |\Z)",
            reference,
            re.DOTALL | re.MULTILINE,
        )
    )
    shown = [(page, line) for page in PAGES for line in _COMMAND.findall(page.read_text(encoding="utf-8"))]
    assert len(shown) > 20
    for page, line in shown:
        words = line.partition(" #")[0].partition(" |")[0].split()
        name = next((n for n in (" ".join(words[:2]), words[0]) if n in sections), None)
        assert name is not None, f"{page.name}: agentdur {line}"
        for option in [word.partition("=")[0] for word in words if word.startswith("--")]:
            assert f"`{option}`" in sections[name], f"{page.name}: agentdur {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / link).resolve()
        assert target.exists() or str(target.relative_to(ROOT)) in LATER, f"{page.name}: {link}"


CONTEXTS = [Context, ObjectContext, ObjectSharedContext, WorkflowContext, WorkflowSharedContext]


def test_each_operation_of_the_contexts_has_its_heading_and_no_other():
    headings = set(re.findall(r"^### ctx\.(\w+)$", CONTEXT_PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    operations = {
        name
        for kind in CONTEXTS
        for name, member in inspect.getmembers(kind)
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
    }
    assert {"run", "sleep", "set", "promise", "idempotency_key"} <= operations
    assert headings == operations


CODES = sorted(
    (kind.code, kind) for kind in vars(errors).values() if inspect.isclass(kind) and getattr(kind, "code", "")
)


@pytest.mark.parametrize(("code", "kind"), CODES, ids=[code for code, _ in CODES])
def test_an_error_s_page_names_its_class_and_says_its_own_words(code: str, kind: type[Exception]):
    text = (ROOT / f"docs/errors/{code}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {code} {kind.__name__}\n")
    assert f"> {' '.join((kind.__doc__ or '').split())}\n" in text
    for heading in ("## What happened", "## Typical cause", "## Cure"):
        assert heading in text
    index = (ROOT / "docs/errors/README.md").read_text(encoding="utf-8")
    assert f"[{code}]({code}.md) | `{kind.__name__}`" in index
