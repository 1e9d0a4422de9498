"""What a person on call asks besides: would another prompt have helped, what is left, and where it runs."""

from __future__ import annotations

import pytest

from tests.http.serving import lent
from tests.remote.test_bad_peers import Peer
from tests.ui.conftest import View
from tests.ui.test_pages import AXE, complaints_of_axe
from tests.ui.world import Town

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


async def opened(view: View, run: str, row: str) -> None:
    await view.open(f"/invocations/{{{run}}}")
    await (await view.sees(f".step[data-type=llm]:has-text('{row}') button.code")).click()
    await (await view.sees(".detail button", "Ask again…")).click()
    await view.sees("dialog", "Ask this turn again")


async def looks(view: View, name: str) -> None:
    """Light, dark and narrow: it fits, and axe finds nothing where it is there."""
    for look, dark, width in (("dark", "dark", 1280), ("narrow", "light", 420), ("light", "light", 1280)):
        await view.page.emulate_media(color_scheme=dark)
        await view.page.set_viewport_size({"width": width, "height": 900})
        await view.picture(f"{name}-{look}")
        assert await view.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), look
        assert not AXE or await complaints_of_axe(view) == []


async def test_a_turn_is_asked_again_with_another_prompt_and_the_two_are_compared(view: View, seeded: Town):
    """The clerk of bills becomes one of the law: the turns behind are told the same."""
    await opened(view, "complaint", "You get your 40")
    prompt = view.page.locator("dialog label:has-text('system') textarea")
    assert await prompt.input_value() == "You settle bills."
    await looks(view, "fork-dialog")
    await prompt.fill("You know restaurants.")
    await view.page.click("dialog button.primary")
    await view.sees("h1", "Compare")
    await view.sees(".pairrow.differs", "Lysverket")
    turn = await view.sees(".pairrow.differs:has-text('llm')", "Lysverket")
    assert await turn.locator(".tag", has_text="edited").count() == 1
    await (await view.sees(".edits summary", "what it says")).click()
    await view.sees(".edits .removed", "You settle bills.")
    await view.sees(".edits .added", "You know restaurants.")
    assert await view.page.locator(".edits .note").count() == 0, "it was used"
    await looks(view, "fork-compare")
    await view.page.click(".pair article:nth-child(2) a")
    await view.sees(".facts", "Restarted from")
    await view.sees(".edits", "system message of llm:billing")
    await (await view.sees(".step[data-type=llm]:has-text('Lysverket') button.code")).click()
    await (await view.sees(".detail button", "Messages")).click()
    await view.sees(".detail .m-system", "You know restaurants.")


async def test_a_turn_is_asked_of_another_model(view: View, seeded: Town):
    await opened(view, "complaint", "You get your 40")
    await view.page.fill("dialog label:has-text('Model') input", "openai/scripted")
    await view.page.click("dialog button.primary")
    await view.sees(".edits li", "asks openai/scripted instead of openai/gpt-4o-mini")
    new = view.page.url.split("b=")[1]
    await seeded.until(new, "completed")
    rows = (await seeded.http.get(f"/invocations/{new}")).json()["journal"]
    assert [row["meta"]["model"] for row in rows if "model" in row.get("meta", {})][-1] == "scripted"


async def test_an_edit_that_was_never_used_is_told(view: View, seeded: Town):
    """The input is another one as well, so nobody tells the message that was edited."""
    old = seeded.runs["complaint"]
    rows = (await seeded.http.get(f"/invocations/{old}")).json()["journal"]
    turn = next(row["index"] for row in rows if row.get("name", "").startswith("llm:"))
    body = {"edits": {"0": "I lost my bag"}, "turns": {turn: {"messages": {"1": "I paid three times"}}}}
    made = await seeded.http.post(f"/invocations/{old}/fork", json={"from": 0, **body})
    new = made.json()["new_invocation_id"]
    await seeded.until(new, "completed")
    await view.open(f"/invocations/{new}")
    await view.sees(".edits li", "Another input")
    await view.sees(".edits .note.failed", "never used")
    await view.picture("fork-unused")


async def test_a_run_and_the_overview_show_what_is_left_of_budgets(view: View, seeded: Town):
    await seeded.start("frugal", "Travel", "frugal", "I paid twice")
    await seeded.until("frugal", "completed")
    await view.open("/invocations/{frugal}")
    await view.sees(".budgets article:has-text('one wish') .limit", "4 of 4")
    await view.sees(".budgets article:has-text('one wish') .limit.gone", "0 left")
    account = await view.sees(".budgets article:has-text('travel desk')", "shared, then fail")
    await view.sees(".budgets article:has-text('travel desk') .limit", "454 of 20.0k")
    assert "19.5k left" in await account.inner_text()
    await looks(view, "run-budgets")
    await view.open("/")
    await view.sees(".budgets article", "travel desk")
    assert await view.page.locator(".budgets", has_text="one wish").count() == 0, "it was that run's own"
    await looks(view, "overview-budgets")


async def test_deployments_say_which_version_of_a_service_runs_where(view: View, seeded: Town):
    old, new = Peer(), Peer()
    old.manifest = new.manifest = {
        "protocolMode": "REQUEST_RESPONSE", "minProtocolVersion": 5, "maxProtocolVersion": 7,
        "services": [{"name": "Far", "ty": "SERVICE", "handlers": [{"name": "go"}]}],
    }  # fmt: skip
    with lent(old) as one, lent(new) as two:
        ids = []
        for port in (one, two):
            body = {"uri": f"http://127.0.0.1:{port}", "use_http_11": True}
            ids.append((await seeded.http.post("/deployments", json=body)).json()["id"])
        await view.open("/deployments")
        await view.sees(f"article:has-text('{ids[0]}')", "replaced by 2")
        await view.sees(f"article:has-text('{ids[0]}') .tag", "no new invocations")
        await view.sees(f"article:has-text('{ids[1]}') li", "revision 2")
        await view.sees("article:has-text('This process')", "Travel")
        assert await view.page.locator(".tag", has_text="no new invocations").count() == 1
        await looks(view, "deployments")
        await view.page.click(f"article:has-text('{ids[1]}') h2 a")
        await view.sees(".tiles section", "go")
        await looks(view, "deployment")
        await view.page.click(".tiles h2 a")
        await view.sees("h1", "Far")
        await view.page.click(f".facts a:has-text('{ids[1]}')")
        await view.sees("h1", str(two))


async def test_rows_of_a_comparison_follow_a_run_that_goes_on(view: View, seeded: Town):
    id = await seeded.start("compared", "Claims", "pay", {"name": "Ada <b>Lovelace</b>", "euros": 1200})
    await view.open("/compare?a={waiting}&b={compared}")
    await view.sees(".pairrow", "waiting for a decision")
    pending = (await seeded.http.get("/approvals")).json()["approvals"]
    (asked,) = [one for one in pending if one["invocation"] == id]
    said = {"digest": asked["digest"], "by": "ada"}
    await seeded.http.post(f"/approvals/{asked['id']}/approve", json=said)
    await view.sees(".pairrow.differs", "approved by ada")
