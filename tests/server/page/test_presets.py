"""Presets add to what was typed and chosen, and take nothing away; a photo may keep its shape."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.server.page.browser import choose_model, drop, send, visiting
from tests.server.support import Client, FakeWorker, picture

SUNSET = "warm sunset light"
STAGE = "a single spotlight on a dark stage"
CANDLE = "candle light from below, dark room"


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def expect_prompt(page: Page, text: str) -> None:
    expect(page.locator("#field-prompt")).to_have_value(text)


def expect_light(page: Page, choice: str) -> None:
    expect(page.locator("[name=light_source]:checked")).to_have_value(choice)


def test_a_preset_is_added_to_prompt_and_light(browser: Browser, client: Client, worker: FakeWorker) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        drop(visit.page)
        visit.page.locator("#field-prompt").fill("lighthouse, fog, ")
        press(visit.page, "Sunset")
        expect_prompt(visit.page, f"lighthouse, fog, {SUNSET}")
        expect(visit.page.get_by_role("button", name="Sunset")).to_have_attribute("aria-pressed", "true")
        send(visit.page)
        params = worker.record(worker.await_request("ic-light")).params
        assert (params["prompt"], params["light_source"]) == (f"lighthouse, fog, {SUNSET}", "Left Light")


def test_another_preset_takes_its_place_and_a_second_press_takes_it_away(browser: Browser, client: Client) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        page = visit.page
        page.locator("#field-prompt").fill("cat, red hat")
        for name, text, light in (("Candle", CANDLE, "Bottom Light"), ("Stage", STAGE, "Top Light")):
            press(page, name)
            expect_prompt(page, f"cat, red hat, {text}")
            expect_light(page, light)
        expect(page.locator(".chip[aria-pressed=true]")).to_have_text(["Stage"])
        press(page, "Stage")
        expect_prompt(page, "cat, red hat")
        expect_light(page, "None")
        expect(page.locator(".chip[aria-pressed=true]")).to_have_count(0)


def test_a_light_that_was_chosen_by_hand_stays(browser: Browser, client: Client) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        page = visit.page
        page.get_by_role("radio", name="Right").check()
        press(page, "Sunset")
        expect_prompt(page, SUNSET)
        expect_light(page, "Right Light")
        press(page, "Sunset")
        expect_light(page, "Right Light")


@pytest.mark.parametrize(
    ("size", "kept", "told"),
    [((1200, 800), (768, 512), "upright"), ((900, 900), (576, 576), "upright"), ((500, 620), None, "")],
)
def test_a_photo_may_keep_its_shape(
    browser: Browser, client: Client, worker: FakeWorker, size: tuple[int, int], kept: tuple[int, int] | None, told: str
) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        page = visit.page
        drop(page, picture(*size))
        expect(page.get_by_alt_text("The chosen picture: photo.png")).to_be_visible()
        page.locator("#field-prompt").fill("cat")
        if kept:
            expect(page.locator(".shape")).to_contain_text(f"The result will be {told}, and the photo is cropped")
            press(page, "Keep the photo's shape")
        expect(page.locator(".shape")).to_have_count(0)
        send(page)
        params = worker.record(worker.await_request("ic-light")).params
        assert (params["width"], params["height"]) == (kept or (512, 640))


def test_portraits_have_no_shape_to_keep(browser: Browser, client: Client) -> None:
    """The photo of a face is not what is cropped."""
    with visiting(browser, str(client.base_url)) as visit:
        choose_model(visit.page, "pulid-lightning")
        drop(visit.page, picture(1200, 300))
        expect(visit.page.get_by_alt_text("The chosen picture: photo.png")).to_be_visible()
        expect(visit.page.locator(".shape")).to_have_count(0)
