"""What is seen of a request while it is under way: place, steps, cancellation, failure, and eight of them at once."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, Locator, Route, expect

from server.settings import GatewaySettings
from tests.server.page.browser import cards, downloaded, order, press_send, send, visiting
from tests.server.support import Client, FakeWorker
from workers.state.scripts import CANCELLED


def _progress(card: Locator) -> Locator:
    return card.get_by_role("progressbar")


def test_a_place_in_the_queue_gets_better(browser: Browser, client: Client, worker: FakeWorker) -> None:
    before = [client.submit(), client.submit()]
    with visiting(browser, str(client.base_url)) as visit:
        card = order(visit.page)
        expect(card).to_contain_text("Waiting: number 3 in the queue")
        assert _progress(card).get_attribute("value") is None, "nobody knows how long it takes"
        for request_id, place in zip(before, (2, 1), strict=True):
            worker.start(request_id)
            expect(card).to_contain_text(f"Waiting: number {place} in the queue")


def test_steps_are_seen(browser: Browser, client: Client, worker: FakeWorker) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        card = order(visit.page)
        request_id = worker.await_request("ic-light")
        record = worker.start(request_id)
        expect(card).to_contain_text("A worker has begun")
        for step in (3, 9):
            worker.records.report(record, step, 25)
            expect(card).to_contain_text(f"Step {step} of 25")
            expect(_progress(card)).to_have_js_property("value", step)
            expect(_progress(card)).to_have_js_property("max", 25)
        worker.complete(request_id)
        expect(card.get_by_alt_text("After")).to_be_visible()
        expect(_progress(card)).to_have_count(0)


def test_steps_of_a_first_attempt_are_forgotten(
    browser: Browser, client: Client, worker: FakeWorker, settings: GatewaySettings
) -> None:
    """A worker that has died left the request at some step; its successor begins anew."""
    with visiting(browser, str(client.base_url)) as visit:
        card = order(visit.page)
        record = worker.start(worker.await_request("ic-light"))
        worker.records.report(record, 9, 25)
        expect(card).to_contain_text("Step 9 of 25")
        assert worker.records.requeue(record)
        expect(card).to_contain_text("Waiting: number 1 in the queue")
        FakeWorker(settings).start(record.request_id)
        expect(card).to_contain_text("A worker has begun")


def test_one_that_waits_is_cancelled(browser: Browser, client: Client, worker: FakeWorker) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        card = order(visit.page)
        request_id = worker.await_request("ic-light")
        card.get_by_role("button", name="Cancel").click()
        expect(card).to_contain_text(CANCELLED)
        expect(card.get_by_role("button", name="Cancel")).to_have_count(0)
        assert worker.record(request_id).status.is_final


def test_one_that_runs_is_cancelled(browser: Browser, client: Client, worker: FakeWorker) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        card = order(visit.page)
        record = worker.start(worker.await_request("ic-light"))
        expect(card).to_contain_text("A worker has begun")
        with visit.page.expect_response(lambda answer: answer.request.method == "DELETE") as answer:
            card.get_by_role("button", name="Cancel").click()
        assert answer.value.status == 202, "its worker ends it"
        assert worker.records.report(record, 4, 25), "the worker is told"
        worker.fail(record.request_id, CANCELLED)
        expect(card).to_contain_text(CANCELLED)


def test_a_failure_is_told_in_words(browser: Browser, client: Client, worker: FakeWorker) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        card = order(visit.page)
        worker.fail(worker.await_request("ic-light"), "No face was found in the picture.")
        expect(card.locator(".error")).to_have_text("No face was found in the picture.")
        expect(visit.page.get_by_role("status").filter(has_text="The request has failed")).to_have_count(1)


def test_a_failed_one_that_was_not_followed_by_a_stream(browser: Browser, client: Client, worker: FakeWorker) -> None:
    """The status of a failed request is an answer with an error's code."""
    with visiting(browser, str(client.base_url)) as visit:
        visit.page.route("**/events", lambda route: route.abort())
        card = order(visit.page)
        expect(card).to_contain_text("The server is not reached")
        worker.fail(worker.await_request("ic-light"), "No face was found in the picture.")
        visit.page.unroute("**/events")
        expect(card.locator(".error")).to_have_text("No face was found in the picture.")
        expect(card).not_to_contain_text("The server is not reached")
        visit.complaints.clear()


def test_the_last_call_is_repeated(browser: Browser, client: Client, worker: FakeWorker) -> None:
    """The connection breaks between the news that a request is done and the answer with its pictures."""
    broken: list[str] = []

    def break_twice(route: Route) -> None:
        if len(broken) < 2:
            broken.append(route.request.url)
            route.abort()
        else:
            route.continue_()

    with visiting(browser, str(client.base_url)) as visit:
        visit.page.route(re.compile(r"/v2/requests/[0-9a-f-]+$"), break_twice)
        card = order(visit.page)
        (output,) = worker.complete(worker.await_request("ic-light"))
        assert downloaded(card)[1] == worker.store.read(output.name)
        expect(card).not_to_contain_text("The server is not reached")
        assert len(broken) == 2
        visit.complaints.clear()


def test_eight_at_once_all_go_on(browser: Browser, client: Client, worker: FakeWorker) -> None:
    """A browser has six connections to a server; streams of events do not use them up."""
    with visiting(browser, str(client.base_url)) as visit:
        order(visit.page, "number 1")
        for number in range(2, 9):
            visit.page.locator("#field-prompt").fill(f"number {number}")
            send(visit.page)
        ids = [worker.await_request("ic-light") for _ in range(8)]
        by_prompt = {worker.record(request_id).params["prompt"]: request_id for request_id in ids}
        for number in range(1, 9):  # in the order in which they wait
            record = worker.start(by_prompt[f"number {number}"])
            worker.records.report(record, number, 25)
        for number in range(1, 9):
            card = cards(visit.page).filter(has_text=f"number {number}")
            expect(card).to_contain_text(f"Step {number} of 25")
        for number in range(8, 0, -1):  # those without a stream first
            worker.complete(by_prompt[f"number {number}"])
        for number in range(1, 9):
            card = cards(visit.page).filter(has_text=f"number {number}")
            expect(card.get_by_alt_text("After")).to_be_visible()


def test_three_tabs_at_once_all_go_on(browser: Browser, client: Client, worker: FakeWorker) -> None:
    """The six connections are those of all tabs together."""
    context = browser.new_context()
    url = str(client.base_url)
    with (
        visiting(browser, url, context=context) as one,
        visiting(browser, url, context=context) as two,
        visiting(browser, url, context=context) as three,
    ):
        tabs = [each.page for each in (one, two, three)]
        for tab in tabs:
            order(tab, "the first")
            tab.locator("#field-prompt").fill("the second")
            press_send(tab)
        with visiting(browser, url, context=context) as four:  # it has to be loaded
            expect(four.page.locator(".server summary")).not_to_contain_text("Asking the server")
        for _ in range(6):
            worker.complete(worker.await_request("ic-light"))
        for tab in tabs:
            expect(cards(tab).get_by_alt_text("After")).to_have_count(2)
    context.close()
