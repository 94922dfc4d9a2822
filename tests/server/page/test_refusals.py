"""What the server refuses is said in its own words, beside the field that it concerns, until the next good try."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.server.conftest import MakeSettings
from tests.server.page.browser import PHOTO, cards, choose_model, drop, order, press_send, send, visiting
from tests.server.support import PNG, Client, FakeWorker, body_for, serving


def _errors_at(page: Page, field: str) -> Locator:
    return page.locator(f"[data-field={field}] .error")


@pytest.fixture
def noise() -> bytes:
    """A picture of 1.5 MB, which no format makes smaller."""
    from io import BytesIO

    from PIL import Image

    out = BytesIO()
    Image.frombytes("RGB", (720, 720), random.Random(0).randbytes(720 * 720 * 3)).save(out, "PNG")
    return out.getvalue()


def test_a_sentence_stands_beside_its_field_until_the_next_good_try(
    browser: Browser, client: Client, worker: FakeWorker
) -> None:
    refused = client.post("/v2/ic-light", json=body_for("ic-light", number_of_images=99)).json()
    with visiting(browser, str(client.base_url)) as visit:
        page = visit.page
        drop(page)
        page.locator("#field-prompt").fill("cat")
        page.locator("#field-number_of_images").fill("99")
        press_send(page)
        (told,) = refused["detail"]
        expect(_errors_at(page, "number_of_images")).to_have_text(told["message"])
        expect(page.locator("#field-number_of_images")).to_have_attribute("aria-invalid", "true")
        expect(page.locator("form.make > .error")).to_have_count(0)  # it is told once
        expect(cards(page)).to_have_count(0)
        page.locator("#field-number_of_images").fill("2")
        send(page)
        expect(page.locator("form.make .error")).to_have_count(0)
        assert worker.record(worker.await_request("ic-light")).params["number_of_images"] == 2


def test_several_fields_at_once_also_folded_ones(browser: Browser, client: Client) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        page = visit.page
        choose_model(page, "pulid-lightning")
        page.get_by_text("More settings").click()
        page.locator("#field-width").fill("9")
        page.get_by_text("More settings").click()
        expect(page.locator("#field-width")).not_to_be_visible()
        press_send(page)
        expect(_errors_at(page, "face_image")).to_have_text("is required")
        expect(_errors_at(page, "width")).to_have_text("must be greater than or equal to 256")
        expect(page.locator("#field-width")).to_be_visible()


def test_a_sentence_belongs_to_its_model(browser: Browser, client: Client) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        press_send(visit.page)
        expect(_errors_at(visit.page, "subject_image")).to_have_text("is required")
        choose_model(visit.page, "pulid-lightning")
        expect(visit.page.locator("form.make .error")).to_have_count(0)


def test_a_file_that_is_no_picture(browser: Browser, client: Client, worker: FakeWorker) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        page = visit.page
        drop(page, b"%PDF-1.7 no picture at all", "letter.pdf", "application/pdf")
        expect(page.locator(".well").first).to_contain_text("No preview")
        page.locator("#field-prompt").fill("cat")
        press_send(page)
        expect(_errors_at(page, "subject_image")).to_contain_text("The image is not a readable")
        expect(cards(page)).to_have_count(0)
        page.locator(".well").first.get_by_role("button", name="Remove").click()
        order(page)
        assert worker.store.read(worker.record(worker.await_request("ic-light")).params["subject_image"]) == PHOTO


@pytest.mark.parametrize("data", [b"", PNG[:60]], ids=["empty", "cut off"])
def test_a_damaged_picture(browser: Browser, client: Client, data: bytes) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        drop(visit.page, data)
        visit.page.locator("#field-prompt").fill("cat")
        press_send(visit.page)
        expect(_errors_at(visit.page, "subject_image")).not_to_be_empty()
        expect(cards(visit.page)).to_have_count(0)


def test_an_address_without_a_picture(browser: Browser, client: Client) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        field = visit.page.get_by_label("Photo of the subject: URL")
        field.fill("no address")
        visit.page.locator("#field-prompt").fill("cat")
        expect(visit.page.locator(".well .name")).to_have_text("no address")
        press_send(visit.page)
        answer = client.post("/v2/ic-light", json=body_for("ic-light", subject_image="no address")).json()
        expect(_errors_at(visit.page, "subject_image")).to_have_text(answer["detail"][0]["message"])


def test_folded_settings_stay_open_while_they_are_corrected(
    browser: Browser, client: Client, worker: FakeWorker
) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        page = visit.page
        drop(page)
        page.locator("#field-prompt").fill("cat")
        page.locator("#field-number_of_images").fill("99")
        page.get_by_text("More settings").click()
        page.locator("#field-steps").fill("400")
        page.get_by_text("More settings").click()
        press_send(page)
        expect(_errors_at(page, "number_of_images")).to_be_visible()
        steps = page.locator("#field-steps")
        expect(_errors_at(page, "steps")).to_be_visible()
        steps.press("Control+a")
        steps.press_sequentially("12")
        expect(steps).to_have_value("12")
        expect(steps).to_be_focused()
        expect(_errors_at(page, "steps")).to_have_count(0)
        expect(_errors_at(page, "number_of_images")).to_be_visible()  # still wrong, still told
        page.locator("#field-number_of_images").fill("2")
        expect(page.locator("form.make .error")).to_have_count(0)
        expect(page.locator(".advanced summary")).to_contain_text("1 changed")
        send(page)
        assert worker.record(worker.await_request("ic-light")).params["steps"] == 12


def test_what_is_said_of_a_picture_goes_with_it(browser: Browser, client: Client) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        page = visit.page
        drop(page, b"no picture at all", "notes.txt")
        page.locator("#field-prompt").fill("cat")
        press_send(page)
        expect(_errors_at(page, "subject_image")).to_be_visible()
        page.get_by_role("button", name="Remove").click()
        expect(_errors_at(page, "subject_image")).to_have_count(0)


def test_an_upload_that_is_too_large(browser: Browser, make_settings: MakeSettings, noise: bytes) -> None:
    with serving(make_settings(max_body_mb=1)) as client, visiting(browser, str(client.base_url)) as visit:
        drop(visit.page, noise)
        visit.page.locator("#field-prompt").fill("cat")
        press_send(visit.page)
        expect(visit.page.locator("form.make > .error")).to_have_text("The request body is larger than 1 MB.")
        expect(cards(visit.page)).to_have_count(0)


def test_more_than_may_be_uploaded_a_day(browser: Browser, make_settings: MakeSettings, noise: bytes) -> None:
    with serving(make_settings(upload_quota_mb=1)) as client, visiting(browser, str(client.base_url)) as visit:
        drop(visit.page, noise)
        visit.page.locator("#field-prompt").fill("cat")
        press_send(visit.page)
        expect(visit.page.locator("form.make > .error")).to_contain_text("upload")
        expect(cards(visit.page)).to_have_count(0)


@pytest.fixture
def narrow(make_settings: MakeSettings) -> Iterator[tuple[Client, FakeWorker]]:
    """A gateway that lets one request wait, and a worker of it."""
    settings = make_settings(queue_limit=1)
    with serving(settings) as client:
        yield client, FakeWorker(settings)


def test_a_full_queue(browser: Browser, narrow: tuple[Client, FakeWorker]) -> None:
    client, worker = narrow
    before = client.submit()
    with visiting(browser, str(client.base_url)) as visit:
        drop(visit.page)
        visit.page.locator("#field-prompt").fill("cat")
        press_send(visit.page)
        expect(visit.page.locator("form.make > .error")).to_have_text(
            "1 requests are waiting for ic-light already. Try again later."
        )
        expect(cards(visit.page)).to_have_count(0)
        worker.start(before)
        send(visit.page)
        worker.await_request("ic-light")


def test_a_server_that_is_not_reached(browser: Browser, make_settings: MakeSettings) -> None:
    with serving(make_settings()) as client, visiting(browser, str(client.base_url)) as visit:
        page = visit.page
        drop(page)
        page.locator("#field-prompt").fill("cat")
        page.context.set_offline(True)
        press_send(page)
        expect(page.locator("form.make > .error")).to_contain_text("The server is not reached")
        expect(page.locator(".server summary")).to_contain_text("Server not reached, trying again")
        page.context.set_offline(False)
        expect(page.locator(".server summary")).not_to_contain_text("Server not reached")
        send(page)
        visit.complaints.clear()
