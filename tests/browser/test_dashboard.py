"""The status page in a real headless browser: what it shows, how it stays current, for whom it is readable."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.browser.conftest import open_page
from workqueue.machine import commands as c

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

    from tests.browser.scene import Scene
    from tests.unit.workqueue.conftest import Voter

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

expect.set_options(timeout=10_000)

# Text whose contrast with what is behind it is less than WCAG 2 AA asks for (4.5:1), computed in the page.
CONTRAST = """() => {
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const linear = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => [r, g, b].map((v) => linear(v / 255))
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  const bad = [];
  for (const e of document.querySelectorAll("body *")) {
    const text = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!text || !e.offsetParent || e.closest(".unseen, .skip, svg")) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) bad.push(`${e.tagName} ${e.textContent.slice(0, 30)}`);
  }
  return bad;
}"""
# Elements that stick out of a narrow window without a scrolling parent.
TOO_WIDE = """() => [...document.querySelectorAll("main *, header *")].filter((e) =>
  e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll, nav, pre, .unseen"))
  .map((e) => e.outerHTML.slice(0, 80))"""


async def text(page: Page, selector: str) -> str:
    return " ".join((await page.inner_text(selector)).split())


def end_streams(voter: Voter) -> None:
    """End the streams that are open, as a restart of the voter would."""
    holds = voter.context.tokens.still_valid
    voter.context.tokens.still_valid = lambda _: False  # type: ignore[method-assign]
    asyncio.get_running_loop().call_later(1.5, setattr, voter.context.tokens, "still_valid", holds)


async def test_every_part_shows_what_is(browser: Browser, scene: tuple[Voter, Scene]) -> None:
    """Queue, loop, charts, workers with jobs, members, models, ratings, alerts, audit; no error, no foreign host."""
    watched = await open_page(browser, scene[0])
    page = watched.page
    await page.wait_for_selector("#models table")
    await page.wait_for_selector("#audit table")
    assert "worker_silent" in await text(page, "#alerts")
    assert "waiting for more disk" in await text(page, "#alerts")
    assert "selfplay-square8_2p-0000 120 of 200" in await text(page, "#workers")
    assert "wrong results in a canary" in await text(page, "#workers")
    assert "NVIDIA H100 78 GB" in await text(page, "#workers")
    available = await text(page, "#queue tbody tr:has(th:text('available'))")
    assert available.split() == ["available", "9", "2", "0", "0", "11"]
    assert "leader" in await text(page, "#members")
    assert await page.locator("#models tbody tr").count() == 8
    assert await page.locator("#models circle").count() == 8
    assert "admin:alice" in await text(page, "#audit")
    assert await page.locator("#ratings table").count() == 2
    assert watched.errors == []
    assert watched.foreign == []


async def test_a_model_shows_lineage_and_evidence(browser: Browser, scene: tuple[Voter, Scene]) -> None:
    """Opened, a model tells what it descends from, what it showed, and which aliases named it."""
    page = (await open_page(browser, scene[0])).page
    await page.wait_for_selector("#models table")
    row = page.locator("#models tbody tr", has_text="champion").first
    await row.get_by_role("button", name="lineage, evidence").click()
    details = page.locator("#models tr.more")
    await details.locator("dl").wait_for()
    shown = await details.inner_text()
    assert "sprt" in shown
    assert "7 won, 1 drawn, 2 lost" in shown
    assert "champion/" in shown
    assert await details.locator("ol code").count() >= 2
    await row.get_by_role("button", name="lineage, evidence").click()
    assert await details.count() == 0


async def test_changes_arrive_without_asking(browser: Browser, scene: tuple[Voter, Scene]) -> None:
    """A change shows within seconds, over the stream alone: the page asks for no status document."""
    voter, made = scene
    watched = await open_page(browser, voter)
    page = watched.page
    await page.wait_for_selector("#models table")
    watched.asked.clear()
    await made.do(c.Halt("train", "the disk is full"), "admin:carol")
    await expect(page.locator("#alerts")).to_contain_text("the disk is full")
    await expect(page.locator("#events")).to_contain_text("audit.halt")
    await expect(page.locator("#audit")).to_contain_text("admin:carol")
    assert [path for path in watched.asked if "/status" in path] == []
    assert watched.errors == []


async def test_a_broken_stream_is_taken_up_again(browser: Browser, scene: tuple[Voter, Scene]) -> None:
    """While the stream is refused the page asks for the status; then it goes on after the last number it saw."""
    voter, made = scene
    watched = await open_page(browser, voter)
    page = watched.page
    await made.do(c.Halt("train", "first"))
    await expect(page.locator("#events")).to_contain_text("first")
    await page.route("**/v1/events*", lambda route: route.abort())
    end_streams(voter)
    await page.wait_for_selector("#link.warn")
    await made.do(c.Halt("tournament", "while away"))
    await expect(page.locator("#alerts")).to_contain_text("while away")
    assert "/status" in watched.asked
    await page.unroute("**/v1/events*")
    await page.wait_for_selector("#link.good")
    await expect(page.locator("#events")).to_contain_text("while away")
    numbers = [int(cell) for cell in await page.locator("#events tbody th").all_inner_texts()]
    assert sorted(numbers, reverse=True) == numbers
    assert len(set(numbers)) == len(numbers)


async def test_a_voter_that_is_away_is_said_to_be(browser: Browser, scene: tuple[Voter, Scene]) -> None:
    """The page keeps what it showed and says that nobody answers."""
    voter, _ = scene
    page = (await open_page(browser, voter)).page
    await page.route("**/*", lambda route: route.abort())
    end_streams(voter)
    await page.wait_for_selector("#link.bad")
    assert "does not answer" in await text(page, "#head")
    assert await page.locator("#workers table").count() == 1
    await page.unroute("**/*")
    await page.wait_for_selector("#link.good")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_is_readable(browser: Browser, scene: tuple[Voter, Scene], scheme: str) -> None:
    """Contrast suffices in both schemes; tables have captions and headers, charts a spoken text, fields a label."""
    page = (await open_page(browser, scene[0], color_scheme=scheme)).page
    await page.wait_for_selector("#models table")
    await page.wait_for_selector("#audit table")
    assert await page.evaluate(CONTRAST) == []
    assert await page.locator("table:not(:has(caption))").count() == 0
    assert await page.locator("svg[role=img]:not([aria-label])").count() == 0
    assert await page.locator("main h2").count() == 11
    assert await page.get_by_label("Token with the role read").count() == 1
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement !== document.body")


@pytest.mark.parametrize("width", [360, 768])
async def test_narrow_windows_hold_it(browser: Browser, scene: tuple[Voter, Scene], width: int) -> None:
    """Nothing sticks out but tables, which scroll by themselves."""
    page = (await open_page(browser, scene[0], viewport={"width": width, "height": 740})).page
    await page.wait_for_selector("#models table")
    assert await page.evaluate(TOO_WIDE) == []
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_without_a_token_nothing_is_shown(browser: Browser, scene: tuple[Voter, Scene]) -> None:
    """The page asks for a token, refuses a wrong one with the voter's sentence, and forgets it."""
    voter = scene[0]
    context = await browser.new_context(ignore_https_errors=True)
    page = await context.new_page()
    await page.goto(f"{voter.url}/")
    assert await page.is_visible("#ask")
    await page.fill("#token", "rift_wrong_token")
    await page.click("#ask button")
    await expect(page.locator("#head")).to_contain_text("no such token")
    assert await page.is_visible("#ask")
    assert await page.evaluate("sessionStorage.getItem('token')") is None
    assert await page.locator("main table").count() == 0


async def test_a_reader_sees_no_audit(browser: Browser, scene: tuple[Voter, Scene]) -> None:
    """What only admins may read is said to be so; the rest is there."""
    page = (await open_page(browser, scene[0], role="worker")).page
    await expect(page.locator("#audit")).to_contain_text("role admin")
    await page.wait_for_selector("#models table")


async def test_names_are_text(browser: Browser, scene: tuple[Voter, Scene]) -> None:
    """What somebody types as a name is shown, never run."""
    voter, made = scene
    page = (await open_page(browser, voter)).page
    await made.do(c.Halt("<img src=x onerror=document.title='owned'>", "<script>document.title='owned'</script>"))
    await expect(page.locator("#alerts")).to_contain_text("<img src=x")
    await asyncio.sleep(0.2)
    assert await page.title() == "Riftq"
    assert await page.locator("main img, main script").count() == 0
