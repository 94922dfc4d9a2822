"""A real browser on the page: the system's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

LAPTOP = {"width": 1366, "height": 900}
PHONE = {"width": 390, "height": 800}
PATIENCE_MS = 30_000

expect.set_options(timeout=PATIENCE_MS)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; tests that need it are skipped where there is none."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium is installed (Debian's package `chromium`)")
    # Its sandbox does not run as root; what it loads here is ours.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=options)
        yield browser
        browser.close()


def _is_complaint(said: ConsoleMessage) -> bool:
    """Whether a message of the console tells of a fault: not that an answer was an error, which may be right."""
    return said.type in ("error", "warning") and not said.text.startswith(
        "Failed to load resource: the server responded"
    )


@dataclass
class Visit:
    """A page that is open, and what it did: hosts it has asked, and what its console says is wrong."""

    page: Page
    hosts: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    """URLs that the page has asked for and that are under way."""


def _expect_form(visit: Visit) -> None:
    try:
        expect(visit.page.locator("form.make")).to_be_visible()
    except AssertionError as error:
        error.add_note(f"The console says {visit.complaints}; under way are {visit.unanswered}.")
        raise


@contextmanager
def visiting(browser: Browser, url: str, *, context: BrowserContext | None = None, **options: Any) -> Iterator[Visit]:
    """Open the page at `url` and wait for its form; `options` are those of a browser context.

    In the end fails if the page has asked any host but its own or its console complains; a test that means to provoke
    that clears `complaints`.
    """
    own = context or browser.new_context(**{"viewport": LAPTOP, **options})
    page = own.new_page()
    page.set_default_timeout(PATIENCE_MS)
    visit = Visit(page)
    page.on("request", lambda request: visit.hosts.add(urlsplit(request.url).netloc))
    page.on("request", lambda request: visit.unanswered.append(request.url))
    for ended in ("requestfinished", "requestfailed"):
        page.on(ended, lambda request: request.url in visit.unanswered and visit.unanswered.remove(request.url))
    page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    page.on("console", lambda said: visit.complaints.append(said.text) if _is_complaint(said) else None)
    try:
        page.goto(url)
        _expect_form(visit)
        yield visit
        assert visit.hosts <= {urlsplit(url).netloc, ""}, "the page asks other hosts"
        assert visit.complaints == []
    finally:
        page.close()
        if context is None:
            own.close()
