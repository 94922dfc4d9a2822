"""What is done with results: one of many in full view, before and after, and prompts of any length."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, FloatRect, Locator, expect

from tests.server.conftest import MakeSettings
from tests.server.page.browser import LAPTOP, PHONE, choose_model, downloaded, order, send, until, visiting
from tests.server.support import Client, FakeWorker, serving

_WIDTH = "async (image) => { await image.decode(); return image.naturalWidth; }"


def test_ten_pictures_of_one_request(browser: Browser, client: Client, worker: FakeWorker) -> None:
    """The played worker's pictures get wider one by one."""
    with visiting(browser, str(client.base_url)) as visit:
        page = visit.page
        page.locator("#field-number_of_images").fill("10")
        card = order(page)
        request_id = worker.await_request("ic-light")
        outputs = worker.complete(request_id)
        shown = card.locator(".pictures img")
        expect(shown).to_have_count(10)
        shown.last.scroll_into_view_if_needed()
        assert [image.evaluate(_WIDTH) for image in shown.all()] == [output.width for output in outputs]
        card.get_by_role("button", name="Picture 4: full view").click()
        viewer = page.get_by_role("dialog", name="Full view")
        for press, place in (("Next picture", 5), ("Previous picture", 4), ("Next picture", 5)):
            viewer.get_by_role("button", name=press).click()
            expect(viewer).to_contain_text(f"{place} of 10")
        assert viewer.get_by_role("img").evaluate(_WIDTH) == outputs[4].width
        name, data = downloaded(viewer)
        assert data == worker.store.read(outputs[4].name)
        assert name == f"ic-light-{worker.record(request_id).params['seed']}-5.webp"
        viewer.get_by_role("button", name="Close").click()
        expect(viewer).to_have_count(0)


def test_the_viewer_goes_round(browser: Browser, client: Client, worker: FakeWorker) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        page = visit.page
        page.locator("#field-number_of_images").fill("3")
        card = order(page)
        worker.complete(worker.await_request("ic-light"))
        card.get_by_role("button", name="Picture 1: full view").click()
        viewer = page.get_by_role("dialog", name="Full view")
        viewer.get_by_role("button", name="Previous picture").click()
        expect(viewer).to_contain_text("3 of 3")
        page.keyboard.press("ArrowRight")
        expect(viewer).to_contain_text("1 of 3")
        page.keyboard.press("Escape")
        expect(viewer).to_have_count(0)


def test_a_portrait_of_several_is_relit_from_the_viewer(browser: Browser, client: Client, worker: FakeWorker) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        page = visit.page
        choose_model(page, "pulid-lightning")
        page.locator("#field-number_of_images").fill("2")
        card = order(page)
        outputs = worker.complete(worker.await_request("pulid-lightning"))
        card.get_by_role("button", name="Picture 2: full view").click()
        page.get_by_role("dialog").get_by_role("button", name="Relight this").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        chosen = page.get_by_alt_text("The chosen picture")
        expect(chosen).to_be_visible()
        assert chosen.evaluate(_WIDTH) == outputs[1].width


def _exposed(slider: Locator) -> float:
    """Where the divider is, in per cent from the left."""
    return float(slider.evaluate("(slider) => Number(slider.value)"))


def _place(handle: Locator, box: FloatRect) -> float:
    """Where the middle of the handle is, as a share of the pictures' width."""
    found = handle.bounding_box()
    assert found is not None
    return (found["x"] + found["width"] / 2 - box["x"]) / box["width"]


def test_before_and_after_are_compared(browser: Browser, client: Client, worker: FakeWorker) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        page = visit.page
        card = order(page)
        worker.complete(worker.await_request("ic-light"))
        slider = card.locator("img-comparison-slider")
        handle = slider.locator(".default-handle")
        expect(handle).to_be_visible()
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        assert box is not None
        assert _exposed(slider) == 50
        y = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + box["width"] / 2, y)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 4, y, steps=4)
        page.mouse.up()
        assert _exposed(slider) == pytest.approx(25, abs=3)
        expect(handle).to_be_visible()
        until(page, lambda: _place(handle, box) == pytest.approx(0.25, abs=0.05), "the handle is where the divider is")
        slider.focus()
        before = _exposed(slider)
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        until(page, lambda: _exposed(slider) == before + 10, "the divider follows the key")


def test_both_pictures_are_there_without_the_slider(browser: Browser, client: Client, worker: FakeWorker) -> None:
    """Its module could not be loaded."""
    with visiting(browser, str(client.base_url)) as visit:
        visit.page.route("**/img-comparison-slider.js", lambda route: route.abort())
        card = order(visit.page)
        worker.complete(worker.await_request("ic-light"))
        expect(card.get_by_alt_text("Before")).to_be_visible()
        expect(card.get_by_alt_text("After")).to_be_visible()
        visit.complaints.clear()


@pytest.mark.parametrize("viewport", [LAPTOP, PHONE], ids=["laptop", "phone"])
@pytest.mark.parametrize("word", ["lantern ", "lanterns"], ids=["words", "one word"])
def test_a_prompt_of_9000_characters(
    browser: Browser, client: Client, worker: FakeWorker, viewport: dict[str, int], word: str
) -> None:
    prompt = (word * 1125)[:8999] + "."
    with visiting(browser, str(client.base_url), viewport=viewport) as visit:
        page = visit.page
        card = order(page, prompt)
        request_id = worker.await_request("ic-light")
        assert worker.record(request_id).params["prompt"] == prompt
        worker.complete(request_id)
        expect(card.get_by_alt_text("After")).to_be_visible()
        card.get_by_role("button", name="Code").click()
        expect(card.locator("pre")).to_contain_text("lantern")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= viewport["width"], "no scroll bar"
        box = card.bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= viewport["width"]
        page.reload()
        expect(page.locator("#field-prompt")).to_have_value(prompt)


def test_results_by_another_host_are_shown_from_this_one(browser: Browser, make_settings: MakeSettings) -> None:
    """FACELIGHT_PUBLIC_URL names an address that the browser cannot or may not load from."""
    settings = make_settings(public_url="https://images.example.com/base")
    worker = FakeWorker(settings)
    with serving(settings) as client, visiting(browser, str(client.base_url)) as visit:
        page = visit.page
        choose_model(page, "pulid-lightning")
        card = order(page)
        request_id = worker.await_request("pulid-lightning")
        (output,) = worker.complete(request_id)
        assert client.get(f"/v2/requests/{request_id}").json()["output"].startswith("https://images.example.com/base/")
        assert card.get_by_role("img").evaluate(_WIDTH) == output.width
        assert downloaded(card)[1] == worker.store.read(output.name)
        card.get_by_role("button", name="Relight this").click()
        expect(page.get_by_alt_text("The chosen picture")).to_be_visible()
        page.locator("#field-prompt").fill("moonlight")
        relit = send(page)
        request_id = worker.await_request("ic-light")
        assert worker.store.read(worker.record(request_id).params["subject_image"]) == worker.store.read(output.name)
        worker.complete(request_id)
        expect(relit.get_by_alt_text("Before")).to_be_visible()
        expect(relit.get_by_alt_text("After")).to_be_visible()
