"""A headless Chromium, and a voter with a scene behind it."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import Browser, Page, async_playwright

from tests.browser.scene import Scene
from tests.unit.workqueue.conftest import Voter, running_voter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


def executable() -> str:
    """Where Chromium is; a test that needs one fails with what to install, it is never passed over."""
    named = os.environ.get("RIFT_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    assert named, "tests/browser needs Chromium: `apt-get install chromium`, or name one in RIFT_CHROMIUM"
    return named


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=executable(), args=list(FLAGS))
        yield launched
        await launched.close()


class Watched:
    """A page, what it wrote to its console, and the requests it made to anybody else."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self._requested(request.url, url))

    def _requested(self, asked: str, own: str) -> None:
        (self.asked if asked.startswith(own) else self.foreign).append(asked.removeprefix(own))


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[tuple[Voter, Scene]]:
    async with running_voter(tmp_path, real=True) as voter:
        made = Scene(voter)
        await made.build()
        yield voter, made


async def open_page(browser: Browser, voter: Voter, role: str = "admin", **options: object) -> Watched:
    """The status page with a token typed in."""
    context = await browser.new_context(ignore_https_errors=True, **options)  # type: ignore[arg-type]
    context.set_default_timeout(10_000)
    page = await context.new_page()
    watched = Watched(page, voter.url)
    await page.goto(f"{voter.url}/dashboard")
    await page.fill("#token", voter.token(role))
    await page.click("#ask button")
    await page.wait_for_selector("#link.good")
    await page.wait_for_selector("#workers table")
    return watched
