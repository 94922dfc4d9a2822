"""A real browser on the page: the system's Chromium, driven by Playwright."""

from __future__ import annotations

import base64
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    JSHandle,
    Locator,
    Page,
    expect,
    sync_playwright,
)

from tests.server.support import picture

LAPTOP = {"width": 1366, "height": 900}
PHONE = {"width": 390, "height": 800}
PATIENCE_MS = 30_000
PHOTO = picture(64, 80)
"""A file that a user drops on the page."""

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
        others = visit.hosts - {urlsplit(url).netloc, ""}
        assert not others, f"the page asks other hosts: {others}"
        assert not visit.complaints, f"the console complains: {visit.complaints}"
    finally:
        page.close()
        if context is None:
            own.close()


def transfer_of(page: Page, data: bytes, name: str = "photo.png", media_type: str = "image/png") -> JSHandle:
    """A DataTransfer that holds a file, as one that is dragged or pasted does."""
    return page.evaluate_handle(
        """([data, name, type]) => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            transfer.items.add(new File([bytes], name, { type }));
            return transfer;
        }""",
        [base64.b64encode(data).decode(), name, media_type],
    )


def drop(page: Page, data: bytes = PHOTO, name: str = "photo.png", media_type: str = "image/png") -> None:
    """Drop a file on the form's first well."""
    well = page.locator(".well").first
    transfer = transfer_of(page, data, name, media_type)
    for event in ("dragover", "drop"):
        well.dispatch_event(event, {"dataTransfer": transfer})
    expect(well.locator(".name")).to_have_text(name)


def choose_model(page: Page, slug: str) -> None:
    """Choose what to make."""
    page.locator(".models label", has_text=re.compile(f"{slug}$")).click()


def press_send(page: Page) -> None:
    """Press the form's button."""
    page.locator("form.make button[type=submit]").click()


def order(page: Page, prompt: str = "a portrait", data: bytes = PHOTO) -> Locator:
    """Drop a photo, enter a prompt and send both; returns the card of the request, which is accepted."""
    drop(page, data)
    page.locator("#field-prompt").fill(prompt)
    return send(page)


def send(page: Page) -> Locator:
    """Send the form as it is; returns the card of the request, which is accepted."""
    count = cards(page).count()
    press_send(page)
    expect(cards(page)).to_have_count(count + 1)
    expect(page.locator("form.make button[type=submit]")).not_to_have_attribute("aria-busy", "true")
    expect(page.locator("form.make [role=alert]")).to_have_count(0)
    # The newest is first; it stays this one when others follow.
    return page.locator(f"article.request:nth-last-of-type({count + 1})")


def cards(page: Page) -> Locator:
    """The requests on the page, the newest first."""
    return page.locator("article.request")


def downloaded(place: Locator) -> tuple[str, bytes]:
    """Name and bytes of the file that the Download button in `place` saves.

    By the keyboard: pictures above it that are just loaded would move it away under the mouse.
    """
    with place.page.expect_download() as caught:
        place.get_by_role("button", name="Download").press("Enter")
    return caught.value.suggested_filename, Path(caught.value.path()).read_bytes()


def kept(page: Page) -> dict[str, str]:
    """What the page has put into the browser's local storage, without the prefix of its names."""
    found: dict[str, str] = page.evaluate("Object.fromEntries(Object.entries(localStorage))")
    return {name.rpartition(":")[2]: value for name, value in found.items()}


def until(page: Page, holds: Callable[[], bool], what: str) -> None:
    """Return as soon as a condition holds that no locator can wait for; fail if it never does."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not holds():
        assert time.monotonic() < deadline, f"not so: {what}"
        page.wait_for_timeout(20)
