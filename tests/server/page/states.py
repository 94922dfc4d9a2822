"""Brings the page into the states that a user meets, with a played worker."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.server.page.browser import press_send
from tests.server.support import SLUGS, FakeWorker

State = Callable[[Page, FakeWorker], None]


def empty(page: Page, worker: FakeWorker) -> None:
    """Nothing is entered, nothing was sent; the state of the server is unfolded."""
    page.locator(".server summary").click()
    expect(page.locator(".server li")).to_have_count(len(SLUGS))


def filled(page: Page, worker: FakeWorker) -> None:
    """A picture and a prompt, all settings unfolded."""
    fill(page)
    page.get_by_text("More settings").click()
    expect(page.get_by_label("Seed")).to_be_visible()


def filled_portrait(page: Page, worker: FakeWorker) -> None:
    """The same of the other model."""
    page.get_by_role("radio", name="Portrait of a person").check()
    filled(page, worker)


def refused(page: Page, worker: FakeWorker) -> None:
    """Sent without a picture, and with settings that the server refuses."""
    page.get_by_text("More settings").click()
    page.get_by_label("Steps steps").fill("1000")
    page.get_by_label("Prompt prompt", exact=True).fill("astronaut")
    press_send(page)
    expect(page.get_by_role("alert")).not_to_have_count(0)


def waiting(page: Page, worker: FakeWorker) -> None:
    """A request waits: its progress is not known."""
    fill(page)
    press_send(page)
    worker.await_request("ic-light")
    expect(page.get_by_text("in the queue")).to_be_visible()


def running(page: Page, worker: FakeWorker) -> None:
    """A worker is at it, and has done some steps."""
    fill(page)
    press_send(page)
    record = worker.start(worker.await_request("ic-light"))
    worker.records.report(record, 7, 50)
    expect(page.get_by_text("Step 7 of 50")).to_be_visible()


def relit(page: Page, worker: FakeWorker) -> None:
    """One picture, beside what it was made of."""
    fill(page)
    press_send(page)
    worker.complete(worker.await_request("ic-light"))
    expect(page.locator("img-comparison-slider.rendered")).to_be_visible()


def several(page: Page, worker: FakeWorker) -> None:
    """Three portraits."""
    page.get_by_role("radio", name="Portrait of a person").check()
    fill(page)
    page.get_by_label("Number of images number_of_images").fill("3")
    press_send(page)
    worker.complete(worker.await_request("pulid-lightning"))
    expect(page.get_by_role("button", name="full view")).to_have_count(3)


def in_full_view(page: Page, worker: FakeWorker) -> None:
    """One of three portraits fills the window."""
    several(page, worker)
    page.get_by_role("button", name="Picture 2: full view").click()
    expect(page.get_by_role("dialog")).to_be_visible()


def with_code(page: Page, worker: FakeWorker) -> None:
    """The code for the form and that for a request are open."""
    relit(page, worker)
    page.get_by_text("Code for these settings").click()
    page.get_by_role("article").get_by_role("button", name="Code").click()
    expect(page.get_by_role("button", name="Copy code")).to_have_count(2)


def failed(page: Page, worker: FakeWorker) -> None:
    """The worker could not do it."""
    fill(page)
    press_send(page)
    worker.fail(worker.await_request("ic-light"))
    expect(page.get_by_text("No face was found").last).to_be_visible()


def gone(page: Page, worker: FakeWorker) -> None:
    """The server has nothing left of a request that this browser remembers."""
    fill(page)
    press_send(page)
    (picture,) = worker.complete(worker.await_request("ic-light"))
    expect(page.locator("img-comparison-slider.rendered")).to_be_visible()
    worker.store.delete(picture.name)
    page.reload()
    expect(page.get_by_text("These are gone")).to_be_visible()


def fill(page: Page) -> None:
    """The sample photo and a prompt."""
    page.get_by_role("button", name="Use the sample photo").click()
    page.get_by_label("Prompt prompt", exact=True).fill("astronaut, warm sunset light")
    expect(page.get_by_alt_text("The chosen picture")).to_be_visible()
