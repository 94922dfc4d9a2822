"""The list of requests outlives the page; it holds ids and settings, never pictures."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.server.page.browser import (
    LAPTOP,
    PHOTO,
    cards,
    choose_model,
    downloaded,
    kept,
    order,
    send,
    transfer_of,
    visiting,
)
from tests.server.support import DATA_URI, Client, FakeWorker


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A user's browser, whose tabs share what is kept."""
    own = browser.new_context(viewport=LAPTOP)
    yield own
    own.close()


def test_finished_ones_are_there_after_a_reload(browser: Browser, client: Client, worker: FakeWorker) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        done = order(visit.page, "a lighthouse")
        (output,) = worker.complete(worker.await_request("ic-light"))
        expect(done.get_by_alt_text("After")).to_be_visible()
        visit.page.locator("#field-prompt").fill("a barn")
        failed = send(visit.page)
        worker.fail(worker.await_request("ic-light"), "No subject was found.")
        expect(failed).to_contain_text("No subject was found.")
        visit.page.reload()
        expect(cards(visit.page)).to_have_count(2)
        expect(done.get_by_alt_text("Before")).to_be_visible()
        expect(done).to_contain_text(re.compile("kept for (59|60) min"))
        assert downloaded(done)[1] == worker.store.read(output.name)
        expect(failed).to_contain_text("a barn")
        expect(failed).to_contain_text("No subject was found.")


def test_running_ones_are_followed_on(browser: Browser, client: Client, worker: FakeWorker) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        running = order(visit.page, "a lighthouse")
        waiting = send(visit.page)
        record = worker.start(worker.await_request("ic-light"))
        expect(running).to_contain_text("A worker has begun")
        expect(waiting).to_contain_text("number 1 in the queue")
        visit.page.reload()
        worker.records.report(record, 7, 25)
        expect(running).to_contain_text("Step 7 of 25")
        expect(waiting).to_contain_text("number 1 in the queue")
        worker.complete(record.request_id)
        worker.complete(worker.await_request("ic-light"))
        for card in (running, waiting):
            expect(card.get_by_alt_text("After")).to_be_visible()


def test_one_that_ended_while_the_page_was_closed(
    browser: Browser, context: BrowserContext, client: Client, worker: FakeWorker
) -> None:
    with visiting(browser, str(client.base_url), context=context) as visit:
        order(visit.page)
    worker.complete(worker.await_request("ic-light"))
    with visiting(browser, str(client.base_url), context=context) as visit:
        expect(cards(visit.page).get_by_alt_text("After")).to_be_visible()


def test_what_the_server_has_no_more_says_so(browser: Browser, client: Client, worker: FakeWorker) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        finished = order(visit.page, "its picture is deleted")
        (output,) = worker.complete(worker.await_request("ic-light"))
        expect(finished.get_by_alt_text("After")).to_be_visible()
        running = send(visit.page)
        worker.store.delete(output.name)
        worker.redis.delete(f"facelight:request:{worker.await_request('ic-light')}")
        visit.page.reload()
        for card in (finished, running):
            expect(card).to_contain_text("These are gone")
            expect(card.get_by_role("img")).to_have_count(0)
            expect(card.get_by_role("button", name="Use these settings")).to_be_visible()


def test_two_tabs_do_not_forget_each_others(
    browser: Browser, context: BrowserContext, client: Client, worker: FakeWorker
) -> None:
    url = str(client.base_url)
    with visiting(browser, url, context=context) as one, visiting(browser, url, context=context) as two:
        order(one.page, "from the first tab")
        order(two.page, "from the second tab")
        order_again = send(one.page)
        for _ in range(3):
            worker.complete(worker.await_request("ic-light"))
        expect(order_again.get_by_alt_text("After")).to_be_visible()
        for tab in (one.page, two.page):
            tab.reload()
            expect(cards(tab)).to_have_count(3)
            expect(cards(tab).filter(has_text="from the second tab")).to_have_count(1)


def test_settings_are_used_again(browser: Browser, client: Client, worker: FakeWorker) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        page = visit.page
        page.locator("[data-field=light_source] label.from-bottom").click()
        page.get_by_text("More settings").click()
        page.locator("#field-steps").fill("12")
        first = order(page, "a lighthouse")
        worker.complete(worker.await_request("ic-light"))
        choose_model(page, "pulid-lightning")
        expect(page.locator("#field-steps")).to_have_count(0)
        first.get_by_role("button", name="Use these settings").click()
        expect(page.locator("#field-prompt")).to_have_value("a lighthouse")
        expect(page.locator("#field-steps")).to_have_value("12")
        send(page)
        params = worker.record(worker.await_request("ic-light")).params
        assert (params["prompt"], params["steps"], params["light_source"]) == ("a lighthouse", 12, "Bottom Light")
        assert worker.store.read(params["subject_image"]) == PHOTO


def test_the_same_again_has_another_seed(browser: Browser, client: Client, worker: FakeWorker) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        visit.page.get_by_text("More settings").click()
        visit.page.locator("#field-seed").fill("42")
        first = order(visit.page, "a lighthouse")
        worker.complete(worker.await_request("ic-light"))
        expect(first).to_contain_text("seed 42")
        first.get_by_role("button", name="Same again, another seed").click()
        expect(cards(visit.page)).to_have_count(2)
        params = worker.record(worker.await_request("ic-light")).params
        assert params["prompt"] == "a lighthouse"
        assert params["seed"] != 42
        assert worker.store.read(params["subject_image"]) == PHOTO


def test_a_portrait_is_relit(browser: Browser, client: Client, worker: FakeWorker) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        page = visit.page
        choose_model(page, "pulid-lightning")
        card = order(page, "an old sailor")
        (portrait,) = worker.complete(worker.await_request("pulid-lightning"))
        card.get_by_role("button", name="Relight this").click()
        expect(page.get_by_alt_text("The chosen picture: pulid-lightning-")).to_be_visible()
        page.locator("#field-prompt").fill("sailor, moonlight")
        relit = send(page)
        request_id = worker.await_request("ic-light")
        assert worker.store.read(worker.record(request_id).params["subject_image"]) == worker.store.read(portrait.name)
        worker.complete(request_id)
        expect(relit.get_by_alt_text("Before")).to_be_visible()
        expect(relit.get_by_role("button", name="Relight this")).to_have_count(0)


def test_requests_are_removed_one_by_one_and_all_ended_ones(
    browser: Browser, client: Client, worker: FakeWorker
) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        page = visit.page
        order(page, "number 1")
        for number in (2, 3, 4):
            page.locator("#field-prompt").fill(f"number {number}")
            send(page)
        ids = [worker.await_request("ic-light") for _ in range(4)]
        for request_id in ids:
            if worker.record(request_id).params["prompt"] != "number 4":
                worker.complete(request_id)
        expect(page.get_by_alt_text("After")).to_have_count(3)
        cards(page).filter(has_text="number 2").get_by_role("button", name="Remove").click()
        expect(cards(page).locator("h3")).to_have_text(["number 4", "number 3", "number 1"])
        page.get_by_role("button", name="Clear the list").click()
        expect(cards(page)).to_have_count(3)  # there is no way back, so it asks
        page.get_by_role("button", name="Forget all of them?").click()
        expect(cards(page).locator("h3")).to_have_text(["number 4"])
        page.reload()
        expect(cards(page).locator("h3")).to_have_text(["number 4"])
        expect(page.get_by_role("button", name="Clear the list")).to_have_count(0)


def test_ids_and_settings_are_kept_and_nothing_else(browser: Browser, client: Client, worker: FakeWorker) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        card = order(visit.page, "a lighthouse")
        request_id = worker.await_request("ic-light")
        worker.complete(request_id)
        expect(card.get_by_alt_text("After")).to_be_visible()
        expect(card).to_contain_text("kept for")
        found = kept(visit.page)
        (name,) = (name for name in found if name.startswith("request."))
        request = json.loads(found[name])
        assert request["id"] == request_id
        assert request["body"] == {"prompt": "a lighthouse"}
        assert request["pictures"]["subject_image"].keys() == {"name", "address", "upload"}
        assert set(found) <= {name, "model", "values"}
        _assert_no_picture_in(found)


@pytest.mark.parametrize("way", ["dropped", "entered"])
def test_a_picture_in_its_own_address_is_no_setting(
    browser: Browser, client: Client, worker: FakeWorker, way: str
) -> None:
    """A data: URI is uploaded as a file is; it may be megabytes."""
    with visiting(browser, str(client.base_url)) as visit:
        page = visit.page
        if way == "entered":
            field = page.get_by_label("Photo of the subject: URL")
            field.fill(DATA_URI)
            field.press("Enter")
        else:
            transfer = transfer_of(page, b"")
            transfer.evaluate(
                "(t, uri) => { t.clearData(); t.items.clear(); t.setData('text/uri-list', uri); }", DATA_URI
            )
            page.locator(".well").first.dispatch_event("drop", {"dataTransfer": transfer})
        expect(page.locator(".well .name")).to_be_visible()
        expect(page.locator(".well .name")).not_to_contain_text("data:")
        page.locator("#field-prompt").fill("cat")
        card = send(page)
        request_id = worker.await_request("ic-light")
        sent = worker.store.read(worker.record(request_id).params["subject_image"])
        assert sent == base64.b64decode(DATA_URI.partition(",")[2])
        worker.complete(request_id)
        expect(card.get_by_alt_text("Before")).to_be_visible()
        _assert_no_picture_in(kept(page))


def _assert_no_picture_in(found: dict[str, str]) -> None:
    assert not any("data:" in value or "base64" in value for value in found.values())
    assert sum(map(len, found.values())) < 3000
