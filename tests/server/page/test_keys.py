"""A server that asks for a key: it is entered once, and what waits for it goes on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.server.conftest import MakeSettings
from tests.server.page.browser import cards, downloaded, drop, kept, order, press_send, send, visiting
from tests.server.support import KEYS, Client, FakeWorker, serving

REFUSED = "Unauthorized. Send a valid API key in the x-api-key or Authorization header."


@pytest.fixture
def guarded(make_settings: MakeSettings) -> Iterator[tuple[str, FakeWorker]]:
    """URL of a gateway that asks for a key, and a worker of it."""
    settings = make_settings(api_keys=KEYS[0])
    with serving(settings) as client:
        yield str(client.base_url), FakeWorker(settings)


def enter_key(page: Page, key: str) -> None:
    """Enter a key in the head of the page, whose entry may be closed."""
    entry = page.locator("details.key")
    if not entry.evaluate("(details) => details.open"):
        entry.locator("summary").click()
    entry.get_by_label("API key").fill(key)
    entry.get_by_role("button", name="Use this key").click()


def test_a_server_without_keys_asks_for_none(browser: Browser, client: Client, worker: FakeWorker) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        expect(visit.page.locator(".server summary")).not_to_contain_text("Asking")
        expect(visit.page.locator("details.key")).to_have_count(0)
        order(visit.page)
        assert not [name for name in kept(visit.page) if name == "key"]


def test_without_a_key_the_entry_opens_with_the_servers_words(
    browser: Browser, guarded: tuple[str, FakeWorker]
) -> None:
    url, worker = guarded
    with visiting(browser, url) as visit:
        page = visit.page
        drop(page)
        page.locator("#field-prompt").fill("cat")
        page.locator("details.key summary").click()  # it is open at first
        expect(page.get_by_label("API key")).not_to_be_visible()
        press_send(page)
        expect(page.get_by_label("API key")).to_be_visible()
        expect(page.locator("details.key [role=alert]")).to_have_text(REFUSED)
        expect(page.locator("form.make > .error")).to_have_text(REFUSED)
        expect(cards(page)).to_have_count(0)
        enter_key(page, KEYS[0])
        expect(page.get_by_label("API key")).not_to_be_visible()
        expect(page.locator("details.key")).to_have_text(r"API key entered", use_inner_text=True)
        send(page)
        worker.await_request("ic-light")


def test_a_wrong_key_is_refused_as_often_as_it_is_entered(browser: Browser, guarded: tuple[str, FakeWorker]) -> None:
    url, _worker = guarded
    with visiting(browser, url) as visit:
        page = visit.page
        drop(page)
        page.locator("#field-prompt").fill("cat")
        for key in ("SG_wrong", KEYS[1]):
            enter_key(page, key)
            expect(page.get_by_label("API key")).not_to_be_visible()
            press_send(page)
            expect(page.locator("details.key [role=alert]")).to_have_text(REFUSED)
        page.locator("details.key summary").click()
        expect(page.get_by_label("API key")).not_to_be_visible()
        press_send(page)
        expect(page.get_by_label("API key")).to_be_visible()
        expect(cards(page)).to_have_count(0)


def test_a_key_is_entered_once(browser: Browser, guarded: tuple[str, FakeWorker]) -> None:
    """And is sent with everything, also for the pictures that were uploaded with it."""
    url, worker = guarded
    with visiting(browser, url) as visit:
        enter_key(visit.page, f"  {KEYS[0]} ")
        visit.page.reload()
        card = order(visit.page)
        (output,) = worker.complete(worker.await_request("ic-light"))
        assert downloaded(card)[1] == worker.store.read(output.name)
        visit.page.reload()
        expect(card.get_by_alt_text("Before")).to_be_visible()
        expect(visit.page.locator("details.key")).to_have_text("API key entered", use_inner_text=True)
        holders = [name for name, value in kept(visit.page).items() if KEYS[0] in value]
        assert holders == ["key"]
        assert KEYS[0] not in visit.page.url
        assert not visit.page.evaluate("document.cookie")


def test_a_request_under_way_goes_on_after_the_right_key(browser: Browser, guarded: tuple[str, FakeWorker]) -> None:
    url, worker = guarded
    with visiting(browser, url) as visit:
        page = visit.page
        enter_key(page, KEYS[0])
        card = order(page)
        request_id = worker.await_request("ic-light")
        enter_key(page, "SG_wrong")
        page.reload()
        expect(card.locator(".warning")).to_have_text(REFUSED)
        expect(page.locator("details.key [role=alert]")).to_have_text(REFUSED)
        record = worker.start(request_id)
        worker.records.report(record, 4, 25)
        enter_key(page, KEYS[0])
        expect(card).to_contain_text("Step 4 of 25")
        expect(card.locator(".warning")).to_have_count(0)
        worker.complete(request_id)
        expect(card.get_by_alt_text("Before")).to_be_visible()
        expect(card.get_by_alt_text("After")).to_be_visible()


def test_a_finished_one_shows_its_upload_once_the_key_is_right(
    browser: Browser, guarded: tuple[str, FakeWorker]
) -> None:
    url, worker = guarded
    with visiting(browser, url) as visit:
        page = visit.page
        enter_key(page, KEYS[0])
        card = order(page)
        worker.complete(worker.await_request("ic-light"))
        expect(card.get_by_alt_text("Before")).to_be_visible()
        enter_key(page, "SG_wrong")
        page.context.new_cdp_session(page).send("Network.clearBrowserCache")
        page.reload()
        expect(card.get_by_role("img")).to_have_count(1)  # the result needs no key
        expect(page.locator("details.key [role=alert]")).to_have_text(REFUSED)
        enter_key(page, KEYS[0])
        expect(card.get_by_alt_text("Before")).to_be_visible()


def test_another_keys_requests_are_not_taken_for_gone(browser: Browser, make_settings: MakeSettings) -> None:
    """A key sees its own requests only; those of the other go on when that is entered again."""
    settings = make_settings(api_keys=",".join(KEYS))
    worker = FakeWorker(settings)
    with serving(settings) as client, visiting(browser, str(client.base_url)) as visit:
        page = visit.page
        enter_key(page, KEYS[0])
        card = order(page)
        request_id = worker.await_request("ic-light")
        enter_key(page, KEYS[1])
        page.reload()
        expect(card).not_to_contain_text("Waiting")
        enter_key(page, KEYS[0])
        worker.complete(request_id)
        expect(card.get_by_alt_text("After")).to_be_visible()
