"""What people see and do, in a real browser against a real engine."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.ui.conftest import View
from tests.ui.world import NASTY, Town

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

_AXE = Path(os.environ.get("AXE_CORE", "node_modules/axe-core/axe.min.js"))
AXE = _AXE.read_text() if _AXE.is_file() else ""
PAGES = {
    "run": "/invocations/{trip}",
    "run-retrying": "/invocations/{retrying}",
    "run-agents": "/invocations/{complaint}?view=agents",
    "run-waiting": "/invocations/{waiting}",
    "run-failed": "/invocations/{failed}",
    "invocations": "/invocations",
    "approvals": "/approvals",
    "sessions": "/sessions",
    "session": "/sessions/support/ada",
    "services": "/services",
    "service": "/services/Claims?handler=pay",
    "overview": "/",
    "search": "/search?q=Bergen",
    "objects": "/objects",
    "object": "/objects/Ledger/acme",
    "compare": "/compare?a={trip}&b={trip2}",
    "sql": "/sql?q=SELECT id, target, status, cost FROM sys_invocation LIMIT 9",
}
LOOKS = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "narrow": {"color_scheme": "light", "viewport": {"width": 420, "height": 900}},
}


async def steps(view: View) -> list[str]:
    """The rows of the journal, by their type."""
    await view.sees(".step")
    return list(await view.page.locator(".step").evaluate_all("all => all.map((one) => one.dataset.type)"))


# A run


async def test_a_run_is_shown_as_the_agent_lived_it(view: View):
    await view.open("/invocations/{trip}")
    assert await steps(view) == [
        "input", "llm", "tool", "call", "llm", "approval", "tool", "llm", "output",
    ]  # fmt: skip
    await view.sees(".facts", "2,045 in, 242 out")
    await view.sees(".step[data-type=llm] .tag.cost", "$0.0")
    await view.sees(".step[data-type=approval]", "approved by ada: fine")


async def test_a_models_turn_opens_to_its_messages_and_tools(view: View):
    await view.open("/invocations/{trip}")
    await (await view.sees(".step[data-type=llm] button.code")).click()
    await (await view.sees(".detail button", "Messages 2")).click()
    await view.sees(".m-system", "Plan the trip")
    await view.sees(".m-user", "A weekend in Bergen")
    await (await view.sees(".detail button", "Tools")).click()
    await view.sees(".spec", "The weather in a city.")


async def test_a_child_opens_within_its_caller(view: View):
    await view.open("/invocations/{trip}")
    await (await view.sees(".step[data-type=call] button.code")).click()
    child = await view.sees(".child", "∑ 1 model call ·")
    await child.locator(".step[data-type=llm]").wait_for()


async def test_payloads_are_text_whatever_they_hold(view: View):
    await view.open("/invocations/{failed}")
    await view.sees(".note.failed", NASTY)
    await (await view.sees(".step[data-type=run] button.code")).click()
    await view.sees(".detail pre", NASTY)
    assert await view.page.locator("main img, main script").count() == 0
    assert await view.page.title() == "Claims/audit · agentdur"


async def test_rows_come_as_they_are_committed(view: View, seeded: Town):
    id = await seeded.start("live", "Claims", "tick", 3)
    await view.open("/invocations/{live}")
    await view.sees(".live")
    await view.stop_polling()
    for n in range(3):
        await view.sees(".step", f"tick {n}")
        assert await view.page.locator(".step", has_text=f"tick {n + 1}").count() == 0
        await seeded.http.post(f"/invocations/{id}/signals/go {n}", json={"value": n})
    await view.sees(".head .status", "succeeded")
    await view.sees(".step[data-type=output]", "→ 3")


async def test_what_a_run_waits_for_is_decided_in_place(view: View, seeded: Town):
    await seeded.start("asked", "Claims", "pay", {"name": "Eve", "euros": 500})
    await view.open("/invocations/{asked}")
    card = await view.sees("article.approval", "Pay 500 € to Eve?")
    await card.locator("button", has_text="Approve").click()
    await view.sees(".head .status", "succeeded")
    await view.sees(".step[data-type=output]", "paid 500 € to Eve")


async def test_a_question_is_approved_in_an_edited_version(view: View, seeded: Town):
    await seeded.start("edited", "Claims", "pay", {"name": "Mallory", "euros": 9})
    await view.open("/invocations/{edited}")
    await (await view.sees("article.approval button", "Edit…")).click()
    await view.page.fill("dialog textarea >> nth=0", "{broken")
    await view.page.click("dialog button.primary")
    await view.sees("dialog .note.failed", "Payload (JSON)")
    await view.page.fill("dialog textarea >> nth=0", '{"name": "Mallory", "euros": 3}')
    await view.page.fill("dialog input >> nth=0", "grace")
    await view.page.click("dialog button.primary")
    await view.sees(".step[data-type=approval]", "approved by grace, edited")


async def test_an_error_is_on_the_row_where_it_happened_with_its_next_try(view: View):
    await view.open("/invocations/{retrying}")
    row = await view.sees(".step", "ask the bank")
    assert "refused the connection" in await row.locator(".row-error").inner_text()
    assert "next try in" in await row.locator(".row-error").inner_text()
    assert await row.locator(".b-retrying").count() == 1
    assert await row.locator(".b-future").count() == 1


async def test_a_retry_that_is_not_waited_for_is_made_at_once(view: View, seeded: Town):
    await seeded.start("again", "Claims", "transfer", {"name": "Eve"})
    await seeded.until("again", "backing-off")
    await view.open("/invocations/{again}")
    await (await view.sees("button", "Retry now")).click()
    await view.sees(".note.retrying", "Attempt 2 failed")
    await view.page.click("summary:text('2 attempts failed')")
    await view.sees(".attempts li", "attempt 1")


async def test_a_run_is_restarted_from_a_row(view: View, seeded: Town):
    await view.open("/invocations/{failed}")
    await (await view.sees(".step[data-type=run] button.code")).click()
    await view.page.click("text=Restart from here")
    await view.page.click("dialog button.primary")
    await view.page.wait_for_url(lambda url: seeded.runs["failed"] not in url)
    await view.sees(".facts", "Restarted from")


async def test_agents_are_shown_with_their_tools_and_hand_overs_and_what_each_cost(view: View):
    await view.open("/invocations/{complaint}")
    await (await view.sees(".views button", "Agents")).click()
    assert view.page.url.endswith("?view=agents")
    await view.sees(".agenttree tr", "hands over to billing")
    assert await tree(view) == [
        (0, "Travel/complain", "1", "4", "454"), (1, "front", "1", "1", "70"),
        (1, "billing", "2", "3", "384"), (2, "lawyer", "1", "1", "37"), (3, "lawyer", "1", "1", "37"),
        (2, "lookup", "2", "", ""),
    ]  # fmt: skip
    assert await view.page.locator(".graph .handover").count() == 1
    assert await view.page.locator(".graph rect").count() == 6


async def test_a_called_run_is_looked_into_for_its_agents(view: View, seeded: Town):
    await view.open("/invocations/{trip}?view=agents")
    await view.sees(".agenttree tr:has-text('FoodGuide/run') td:nth-child(4)", "133")
    assert [(depth, name, calls) for depth, name, _, calls, _ in await tree(view)] == [
        (0, "Travel/plan", "4"), (1, "planner", "4"), (2, "weather", ""), (2, "food", "1"),
        (3, "FoodGuide/run", "1"), (4, "food", "1"), (2, "book", ""),
    ]  # fmt: skip
    await view.sees(".agenttree tr:has-text('book')", "1 approval")
    await view.page.click(".graph a:has-text('FoodGuide/run')")
    await view.sees("h1", "FoodGuide / run")
    assert seeded.runs["trip"] not in view.page.url


async def tree(view: View) -> list[tuple[int, str, str, str, str]]:
    """(depth, name, times, model calls, tokens) of each line."""
    found = await view.page.locator(".agenttree tbody tr").evaluate_all(
        "all => all.map((one) => [Number(one.querySelector('.who').style.getPropertyValue('--depth')),"
        " one.querySelector('b').innerText, ...[...one.cells].slice(1, 4).map((cell) => cell.innerText)])"
    )
    return [tuple(one) for one in found]


# Lists


async def test_filters_are_in_the_address_and_batches_say_how_many(view: View, seeded: Town):
    for n in range(3):
        await seeded.start(f"batch{n}", "Claims", "tick", 1)
    await view.open("/invocations")
    await view.page.select_option("select[aria-label=Service]", "Claims")
    await view.page.select_option("select[aria-label=Handler]", "tick")
    await view.page.click(".chip:text('waiting')")
    assert dict(part.split("=") for part in urlsplit(view.page.url).query.split("&")) == {
        "service": "Claims", "handler": "tick", "status": "suspended",
    }  # fmt: skip
    await view.page.locator("tbody tr").nth(2).wait_for()
    await view.page.check("input[aria-label='choose all']")
    await view.page.click("button:text('Cancel…')")
    await view.sees("dialog", "Cancel 3 invocations?")
    await view.page.click("dialog button.danger")
    for n in range(3):
        await seeded.until(f"batch{n}", "completed")
    await view.sees(".empty", "Nothing fits")
    await view.page.reload()
    assert await view.page.locator("select[aria-label=Service]").input_value() == "Claims"


async def test_runs_are_found_by_what_was_said_in_them(view: View, seeded: Town):
    await view.open("/")
    await view.sees("h1", "Overview")
    await view.page.keyboard.press("/")
    await view.sees("h1", "Search")
    await view.page.keyboard.type("restaurants")
    await view.page.keyboard.press("Enter")
    await view.sees(".findings li:has-text('FoodGuide') .spot", "Told to models")  # it is in the prompt only
    assert await view.page.locator("mark").first.inner_text() == "restaurants"
    await view.page.click(".chip:text('Told to models')")
    await view.sees(".empty", "No run has it")
    assert "in=told" not in view.page.url and "in=input" in view.page.url
    await view.open("/invocations?q=raincoat")
    await view.page.click("text=Look for it in inputs, outputs and messages")
    await (await view.sees(".findings a", "Travel/plan")).click()
    await view.sees("h1", "plan")


async def test_the_inbox_decides_many_at_once(view: View, seeded: Town):
    for n in range(2):
        await seeded.start(f"bulk{n}", "Claims", "pay", {"name": f"Bulk {n}", "euros": 7})
    await view.open("/approvals?q=Bulk")
    await view.page.locator("article").nth(1).wait_for()
    for n in range(2):
        await view.page.locator("article input[type=checkbox]").nth(n).check()
    await view.page.click(".card.row button.danger")
    await view.sees("dialog", "Reject 2 questions?")
    await view.page.fill("dialog input", "ada")
    await view.page.click("dialog button.danger")
    for n in range(2):
        await seeded.until(f"bulk{n}", "completed")
    await view.page.click("button:text('Decided')")
    await view.sees("article", "Rejected by ada")


# Conversations, services


async def test_a_session_is_talked_to_and_each_turn_leads_to_its_run(view: View):
    await view.open("/sessions/support/fresh")
    await view.sees(".empty", "A new session")
    await view.page.fill("#say", "What is the weather in Oslo?")
    await view.page.keyboard.press("Enter")
    await view.sees(".m-assistant", "14 °C")
    await (await view.sees(".turn a")).click()
    await view.sees("h1", "support / fresh / turn")


async def test_what_a_model_says_is_shown_as_it_says_it(view: View):
    """The scripted model takes minutes for this answer: what is on the page was shown before its end."""
    told = asyncio.Event()

    async def later(route: Any) -> None:
        await told.wait()
        await route.continue_()

    await view.open("/sessions/support/slow")
    await view.sees(".empty", "A new session")
    await view.stop_polling()
    await view.page.route("**/sessions/support/slow", later)  # all that is known is what the post answers
    await view.page.fill("#say", "Tell me a story")
    await view.page.click("button:text('Send')")
    await view.sees(".bubble.talk", "Once upon")
    told.set()
    await view.page.fill("#say", "And the weather?")  # it waits for its turn, and is there at once
    await view.page.keyboard.press("Enter")
    await view.sees(".m-user", "And the weather?")
    await (await view.sees("button", "Stop")).click()
    await view.sees(".m-assistant:has-text('Once upon') .tag", "interrupted")
    await view.sees(".m-assistant", "14 °C")
    await view.page.locator(".bubble.talk").wait_for(state="detached")
    assert await view.page.locator(".m-user").count() == 2
    assert await view.page.locator(".m-assistant").count() == 2


async def test_what_an_agent_asks_in_a_conversation_is_decided_there(view: View):
    """The question comes as it is asked, without asking for it again and again."""
    await view.open("/sessions/support/booking")
    await view.sees(".empty", "A new session")
    await view.stop_polling()
    await view.page.fill("#say", "Book me a room")
    await view.page.keyboard.press("Enter")
    card = await view.sees("article.approval", "Plaza")
    await card.locator("button", has_text="Approve").click()
    await view.sees(".m-assistant", "It is booked.")


async def test_a_handler_is_tried_with_a_form_made_from_its_schema(view: View):
    await view.open("/services/Claims?handler=transfer")
    await view.page.fill("label:has-text('name') input", "Form")
    assert await view.page.locator("label:has-text('euros') input").input_value() == "100"
    await view.page.click("button:text('Start')")
    await view.sees(".step[data-type=input]", '{"name":"Form","euros":100}')


# Two runs, keys, sums, questions


async def test_a_fork_with_another_result_is_compared_with_its_origin(view: View):
    await view.open("/invocations/{trip}")
    await (await view.sees(".step[data-type=llm] button.code")).click()
    await (await view.sees(".detail button", "Edit and fork…")).click()
    text = await view.page.input_value("dialog textarea")
    await view.page.fill("dialog textarea", text.replace("Bergen", "Oslo"))
    await view.page.click("dialog button.primary")
    await view.sees("h1", "Compare")
    changed = await view.sees(".pairrow.differs", "weather")
    assert await changed.locator(".tag", has_text="edited").count() == 1
    await changed.locator("button").click()
    await view.sees(".diff .added", "Oslo")
    await view.sees(".pairrow.differs", "Oslo: 14 °C")  # it has run on from there


async def test_a_page_goes_on_after_a_request_that_failed(view: View):
    failed: list[str] = []

    async def fail_once(request: Any) -> None:
        if request.request.url in failed:
            await request.continue_()
        else:
            failed.append(request.request.url)
            await request.fulfill(status=404, body="")

    await view.page.route("**/rows?*", fail_once)
    await view.open("/compare?a={trip}&b={complaint}")
    await view.sees(".pairrow.differs", "planner")
    assert len(failed) == 2


async def test_a_key_shows_who_holds_it_and_who_waits(view: View):
    await view.open("/objects")
    await (await view.sees("tbody a.rowlink", "acme")).click()
    await view.sees(".card", "Held by")
    await view.sees(".card ol", "add")
    await view.sees("tr", "balance")


async def test_the_state_of_a_key_is_edited_behind_the_handler_that_holds_it(view: View, seeded: Town):
    await seeded.start("deposit", "Ledger", "add", 7, key="vault")
    id = await seeded.start("holding", "Ledger", "close", None, key="vault")
    await seeded.until("holding", "running", "suspended")
    await view.open("/objects/Ledger/vault")
    await view.page.click("button[aria-label='edit balance']")
    await view.page.fill("dialog textarea", "1000")
    await view.page.click("dialog button.primary")
    await view.sees(".toast", "accepted")
    await view.sees("tr .tok-num", "7")
    await seeded.http.post(f"/invocations/{id}/signals/17", json={"value": None})
    await view.sees("tr .tok-num", "1000")


async def test_the_overview_adds_up_what_was_spent(view: View):
    await view.open("/")
    await view.sees(".spend", "gpt-4o-mini")
    await view.sees(".spend", "support / ada")
    await (await view.sees("a.gauge", "retrying")).click()
    await view.sees("tbody tr", "Claims/transfer")


async def test_a_question_in_sql_is_answered_and_a_bad_one_explained(view: View):
    await view.open("/sql")
    await view.page.fill("#sql", "SELECT COUNT(*) AS n FROM sys_invocation WHERE target = 'Travel/plan'")
    await view.page.press("#sql", "Control+Enter")
    await view.sees("th", "n")
    await view.page.fill("#sql", "DROP TABLE sys_invocation")
    await view.page.click("button:text('Run')")
    await view.sees(".note.failed[role=alert]")
    assert await view.page.locator("table").count() == 0


# All pages


async def test_the_keyboard_is_enough(view: View):
    await view.open("/")
    await view.sees("nav a")
    await view.page.keyboard.press("g")
    await view.page.keyboard.press("i")
    await view.sees("h1", "Invocations")
    await view.page.keyboard.press("/")
    await view.page.keyboard.type("Travel/plan")
    await view.page.keyboard.press("Tab")
    await view.sees("tbody tr", "Travel/plan")
    await view.open("/invocations/{trip}")
    await view.sees(".step")
    await view.page.keyboard.press("j")
    await view.page.keyboard.press("j")
    await view.page.keyboard.press("Enter")
    await view.sees(".step[data-index='1'] .detail")


@pytest.mark.parametrize("view", LOOKS.values(), ids=LOOKS.keys(), indirect=True)
async def test_every_page_is_readable_and_fits_the_window(view: View, request: pytest.FixtureRequest):
    """No sideways scrolling, nothing from elsewhere, and axe finds nothing where it is there."""
    look = request.node.callspec.id
    found: dict[str, list[str]] = {}
    for name, path in PAGES.items():
        await view.open(path)
        await view.sees("h1")
        await view.page.wait_for_load_state("load")
        await asyncio.sleep(0.25)
        await view.picture(f"{name}-{look}")
        assert await view.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        if AXE:
            found[name] = await complaints_of_axe(view)
    assert {name: said for name, said in found.items() if said} == {}
    assert {urlsplit(url).netloc for url in view.requests} == {urlsplit(view.town.url).netloc}


async def complaints_of_axe(view: View) -> list[str]:
    await view.page.evaluate(AXE)
    found = await view.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {node['target']} {' '.join(node['failureSummary'].split())[:220]}"
        for one in found["violations"]
        for node in one["nodes"]
    ]


async def test_a_long_journal_is_on_the_screen_soon(view: View, seeded: Town):
    """Reported, and not judged: how long a journal of 5,000 entries takes until its first rows are there."""
    id = await seeded.start("long", "Claims", "many", 2500)
    await seeded.until("long", "completed")
    await view.open("/invocations")
    await view.sees("tbody tr")
    began = await view.page.evaluate(
        "(path) => { history.pushState(null, '', path); const t = performance.now();"
        " dispatchEvent(new PopStateEvent('popstate')); return t; }",
        f"/ui/invocations/{id}",
    )
    await view.sees(".timeline header", "2502 steps, 5002 entries")
    await view.sees(".step", "step 10")
    took = await view.page.evaluate("performance.now()") - began
    drawn = await view.page.locator(".step").count()
    sys.stdout.write(f"\n5,002 entries: {took:.0f} ms, {drawn} rows drawn\n")
    assert drawn < 500, "rows far below are not drawn"
    await view.page.evaluate("scrollTo(0, document.body.scrollHeight)")
    await view.sees(".step[data-type=output]", "2500")
