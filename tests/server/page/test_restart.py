"""The gateway is restarted while somebody waits: the page says so, and goes on by itself."""

from __future__ import annotations

import signal
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser, expect

from tests.live_server import free_port
from tests.server.conftest import NEVER, MakeSettings
from tests.server.http.test_drain import gateway
from tests.server.page.browser import downloaded, order, send, visiting
from tests.server.support import FakeWorker


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "told to end"])
def test_it_is_restarted(browser: Browser, make_settings: MakeSettings, number: signal.Signals) -> None:
    settings, port = make_settings(), free_port()
    worker = FakeWorker(settings)
    with ExitStack() as gateways:
        process, url = gateways.enter_context(gateway(settings, port, drain_delay_s=0, janitor_interval_s=NEVER))
        with visiting(browser, url) as visit:
            page = visit.page
            running = order(page, "the first")
            waiting = send(page)
            record = worker.start(worker.await_request("ic-light"))
            worker.records.report(record, 3, 25)
            expect(running).to_contain_text("Step 3 of 25")
            process.send_signal(number)
            process.wait(20)
            for card in (running, waiting):
                expect(card.locator(".warning")).to_have_text("The server is not reached. Trying again…")
            expect(page.locator(".server summary")).to_contain_text("Server not reached, trying again")
            worker.records.report(record, 9, 25)
            gateways.enter_context(gateway(settings, port, janitor_interval_s=NEVER))
            expect(running).to_contain_text("Step 9 of 25")
            expect(waiting).to_contain_text("Waiting: number 1 in the queue")
            expect(page.locator(".warning")).to_have_count(0)
            expect(page.locator(".server summary")).not_to_contain_text("not reached")
            for request_id, card in ((record.request_id, running), (worker.await_request("ic-light"), waiting)):
                (output,) = worker.complete(request_id)
                assert downloaded(card)[1] == worker.store.read(output.name)
            visit.complaints.clear()


def test_it_ends_while_the_page_is_away(browser: Browser, make_settings: MakeSettings) -> None:
    """What was done while nobody could ask is shown as soon as somebody can."""
    settings, port = make_settings(), free_port()
    worker = FakeWorker(settings)
    with ExitStack() as gateways:
        process, url = gateways.enter_context(gateway(settings, port, janitor_interval_s=NEVER))
        with visiting(browser, url) as visit:
            done, failed = order(visit.page), send(visit.page)
            process.kill()
            process.wait(10)
            worker.complete(worker.await_request("ic-light"))
            worker.fail(worker.await_request("ic-light"), "No subject was found.")
            gateways.enter_context(gateway(settings, port, janitor_interval_s=NEVER))
            expect(done.get_by_alt_text("After")).to_be_visible()
            expect(failed.locator(".error")).to_have_text("No subject was found.")
            visit.complaints.clear()
