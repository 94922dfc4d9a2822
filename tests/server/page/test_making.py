"""From a photo to a file: every way in which a picture gets on the page, and what is made of the form's settings."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.server.page.browser import (
    PHOTO,
    cards,
    choose_model,
    downloaded,
    drop,
    order,
    press_send,
    send,
    transfer_of,
    visiting,
)
from tests.server.support import PNG, SLUGS, Client, FakeWorker, Host, image_field


@pytest.mark.parametrize("slug", SLUGS)
def test_from_a_dropped_photo_to_the_saved_file(
    browser: Browser, client: Client, worker: FakeWorker, slug: str
) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        choose_model(visit.page, slug)
        card = order(visit.page, "an old sailor, oil painting")
        request_id = worker.await_request(slug)
        record = worker.record(request_id)
        assert record.params["prompt"] == "an old sailor, oil painting"
        assert worker.store.read(record.params[image_field(slug)]) == PHOTO
        (output,) = worker.complete(request_id)
        name, data = downloaded(card)
        assert name == f"{slug}-{record.params['seed']}.{record.params['output_format']}"
        assert data == worker.store.read(output.name)


def _choose(page: Page, _host: Host) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a file").first.click()
    chooser.value.set_files([{"name": "chosen.png", "mimeType": "image/png", "buffer": PHOTO}])


def _paste(page: Page, _host: Host) -> None:
    page.evaluate(
        """(clipboardData) => {
            const options = { clipboardData, bubbles: true, cancelable: true };
            document.body.dispatchEvent(new ClipboardEvent("paste", options));
        }""",
        transfer_of(page, PHOTO, "pasted.png"),
    )


def _enter_its_address(page: Page, host: Host) -> None:
    field = page.get_by_label("Photo of the subject: URL")
    field.fill(f"{host.url}/photo.png")
    field.press("Enter")


def _drop_from_another_page(page: Page, host: Host) -> None:
    transfer = page.evaluate_handle(
        """(address) => {
            const transfer = new DataTransfer();
            transfer.setData("text/uri-list", address);
            return transfer;
        }""",
        f"{host.url}/photo.png",
    )
    page.locator(".well").first.dispatch_event("drop", {"dataTransfer": transfer})


def _use_the_sample(page: Page, _host: Host) -> None:
    page.get_by_role("button", name="Use the sample photo").click()


@pytest.mark.parametrize(
    ("bring", "name", "expected"),
    [
        (_choose, "chosen.png", PHOTO),
        (_paste, "pasted.png", PHOTO),
        (_enter_its_address, "http://127.0.0.1:", PNG),
        (_drop_from_another_page, "http://127.0.0.1:", PNG),
        (_use_the_sample, "sample.jpg", (files("server") / "web/sample.jpg").read_bytes()),
    ],
    ids=["chosen", "pasted", "by its address", "dropped from another page", "sample"],
)
def test_other_ways_to_bring_a_picture(
    browser: Browser,
    client: Client,
    worker: FakeWorker,
    host: Host,
    bring: Callable[[Page, Host], None],
    name: str,
    expected: bytes,
) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        bring(visit.page, host)
        expect(visit.page.locator(".well .name")).to_contain_text(name)
        visit.page.locator("#field-prompt").fill("by a window")
        card = send(visit.page)
        request_id = worker.await_request("ic-light")
        assert worker.store.read(worker.record(request_id).params["subject_image"]) == expected
        (output,) = worker.complete(request_id)
        assert downloaded(card)[1] == worker.store.read(output.name)


def test_a_photo_is_shown_before_it_is_sent_and_can_be_taken_back(browser: Browser, client: Client) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        drop(visit.page)
        well = visit.page.locator(".well").first
        assert (
            well.get_by_role("img").evaluate("async (image) => { await image.decode(); return image.naturalWidth; }")
            == 64
        )
        well.get_by_role("button", name="Remove").click()
        expect(well.get_by_role("button", name="Choose a file")).to_be_visible()
        press_send(visit.page)
        expect(visit.page.locator("[data-field=subject_image] .error")).to_have_text("is required")


def test_every_kind_of_setting_reaches_the_worker(browser: Browser, client: Client, worker: FakeWorker) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        page = visit.page
        drop(page)
        page.locator("#field-prompt").fill("cat")
        page.locator("[data-field=light_source] label.from-top").click()
        page.get_by_text("More settings").click()
        page.locator("#field-negative_prompt").fill("")
        page.locator("#field-width").select_option("768")
        page.locator("#field-cfg").fill("7.25")
        page.get_by_label("Steps, slider").press("ArrowRight")
        page.locator("[data-field=output_format] label", has_text="png").click()
        page.locator("#field-seed").fill("9007199254740991")
        second = page.locator(".well").last
        second.dispatch_event("drop", {"dataTransfer": transfer_of(page, PNG, "background.png")})
        send(page)
        params = worker.record(worker.await_request("ic-light")).params
        assert worker.store.read(params.pop("background_image")) == PNG
        assert worker.store.read(params.pop("subject_image")) == PHOTO
        chosen = {
            "prompt": "cat",
            "light_source": "Top Light",
            "negative_prompt": "",
            "width": 768,
            "cfg": 7.25,
            "steps": 26,
            "output_format": "png",
            "seed": 9007199254740991,
        }
        assert chosen.items() <= params.items()


def test_an_unknown_setting_of_the_server_gets_an_input(browser: Browser, client: Client) -> None:
    """The form follows the OpenAPI document, so the page need not know a parameter."""
    document = client.get("/openapi.json").json()
    model = document["paths"]["/v2/ic-light"]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    properties = document["components"]["schemas"][model.rpartition("/")[2]]["properties"]
    properties["grain"] = {"type": "integer", "minimum": 0, "maximum": 9, "default": 4, "description": "Film `grain`."}
    context = browser.new_context()
    context.route("**/openapi.json", lambda route: route.fulfill(json=document))
    with visiting(browser, str(client.base_url), context=context) as visit:
        visit.page.get_by_text("More settings").click()
        expect(visit.page.locator("#field-grain")).to_have_value("4")
        visit.page.locator("#field-grain").fill("7")
        drop(visit.page)
        visit.page.locator("#field-prompt").fill("cat")
        with visit.page.expect_request("**/v2/ic-light") as sent:
            press_send(visit.page)
        assert sent.value.post_data_json["grain"] == 7
        expect(cards(visit.page)).to_have_count(1)
    context.close()
