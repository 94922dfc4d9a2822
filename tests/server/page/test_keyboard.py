"""The page for those who use the keyboard alone, see or hear little, or have a small window."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.server.page import states
from tests.server.page.browser import visiting
from tests.server.support import Client, FakeWorker
from tests.workers.state.support import unfinished

SHOWS_FOCUS = """() => {
  const focused = document.activeElement;
  const shows = (element) => {
    const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(element);
    return (outlineStyle !== "none" && parseFloat(outlineWidth) >= 2) || boxShadow !== "none";
  };
  // A radio button that covers what it chooses shows its focus there.
  return getComputedStyle(focused).opacity === "0" ? shows(focused.nextElementSibling) : shows(focused);
}"""
IS_SEEN = """() => {
  const { left, top, width, height } = document.activeElement.getBoundingClientRect();
  const there = document.elementFromPoint(left + width / 2, top + Math.min(height, innerHeight - top) / 2);
  return document.activeElement.contains(there) || there?.contains(document.activeElement);
}"""
NUMBER_STOPS = """() => {
  const stops = "a[href], button:not([disabled]), input, select, textarea, summary, [tabindex='0']";
  const isShown = (element) => element.checkVisibility({ contentVisibilityAuto: true }) && !element.hidden;
  const isReached = (element) => element.type !== "radio" || element.checked;
  return [...document.querySelectorAll(stops)].filter(isShown).filter(isReached).map((element, number) => {
    element.dataset.stop = number;
    return `${number}: ${element.outerHTML.slice(0, 120)}`;
  });
}"""
BEYOND_THE_WINDOW = """all => all
  .filter((element) => element.checkVisibility() && element.getBoundingClientRect().right > innerWidth + 0.5)
  .map((element) => element.outerHTML.slice(0, 150))"""
AT_STOP = "() => document.activeElement === document.body ? null : document.activeElement.dataset.stop ?? 'unknown'"


@contextmanager
def opened(browser: Browser, client: Client, **options: object) -> Iterator[Page]:
    with visiting(browser, str(client.base_url), **options) as visit:
        yield visit.page


def is_focused(locator: Locator) -> bool:
    return bool(locator.evaluate_all("found => found.includes(document.activeElement)"))


def tab_to(locator: Locator, backwards: bool = False) -> None:
    """Press Tab until `locator` has the focus; the focus is seen all the way."""
    page = locator.page
    for _ in range(100):
        if is_focused(locator):
            return
        page.keyboard.press("Shift+Tab" if backwards else "Tab")
        assert page.evaluate(f"document.activeElement === document.body || ({SHOWS_FOCUS})()")
    raise AssertionError(f"the keyboard does not reach {locator}")


def test_a_picture_is_made_with_the_keyboard_alone(browser: Browser, client: Client, worker: FakeWorker) -> None:
    with opened(browser, client) as page:
        keys = page.keyboard
        tab_to(page.get_by_role("radio", name="Relight a subject"))
        keys.press("ArrowRight")
        expect(page.get_by_role("radio", name="Portrait of a person")).to_be_checked()
        keys.press("ArrowLeft")
        expect(page.get_by_role("radio", name="Relight a subject")).to_be_checked()
        tab_to(page.get_by_role("button", name="Use the sample photo"))
        keys.press("Space")
        expect(page.get_by_alt_text("The chosen picture")).to_be_visible()
        tab_to(page.get_by_label("Prompt prompt", exact=True))
        keys.type("cup")
        tab_to(page.get_by_role("button", name="Sunset"))
        keys.press("Enter")
        expect(page.get_by_label("Prompt prompt", exact=True)).to_have_value("cup, warm sunset light")
        tab_to(page.get_by_role("radio", name="Left"))
        keys.press("ArrowDown")
        expect(page.get_by_role("radio", name="Right")).to_be_checked()
        tab_to(page.get_by_role("slider", name="Number of images"))
        keys.press("ArrowRight")
        tab_to(page.get_by_role("button", name="Relight", exact=True))
        keys.press("Enter")
        request_id = worker.await_request("ic-light")
        record = worker.record(request_id)
        assert record.params["prompt"] == "cup, warm sunset light"
        assert (record.params["light_source"], record.params["number_of_images"]) == ("Right Light", 2)
        worker.complete(request_id)
        expect(page.get_by_role("button", name="full view")).to_have_count(2)


@pytest.mark.parametrize("keys", ["Control+Enter", "Meta+Enter"])
def test_a_shortcut_sends_from_anywhere(browser: Browser, client: Client, worker: FakeWorker, keys: str) -> None:
    with opened(browser, client) as page:
        states.fill(page)
        page.get_by_label("Prompt prompt", exact=True).press(keys)
        first = worker.await_request("ic-light")
        expect(page.get_by_role("article")).to_have_count(1)
        tab_to(page.get_by_role("button", name="Cancel"))
        page.keyboard.press(keys)
        assert worker.await_request("ic-light") != first


def test_a_request_is_cancelled(browser: Browser, client: Client, worker: FakeWorker) -> None:
    with opened(browser, client) as page:
        states.waiting(page, worker)
        tab_to(page.get_by_role("button", name="Cancel"))
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Remove this request from the list")).to_be_visible()
        tab_to(page.get_by_role("button", name="Remove this request from the list"), backwards=True)
        page.keyboard.press("Space")
        expect(page.get_by_text("Your pictures appear here")).to_be_visible()


def test_the_full_view_takes_the_focus_and_gives_it_back(browser: Browser, client: Client, worker: FakeWorker) -> None:
    with opened(browser, client) as page:
        states.several(page, worker)
        second = page.get_by_role("button", name="Picture 2: full view")
        tab_to(second)
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog", name="Full view")
        expect(dialog.get_by_role("img", name="Picture 2 of 3")).to_be_visible()
        for _ in range(8):
            page.keyboard.press("Tab")
            assert page.evaluate(
                "document.querySelector('dialog').contains(document.activeElement) || !document.hasFocus()"
                " || document.activeElement === document.body"
            )
        page.keyboard.press("ArrowRight")
        expect(dialog.get_by_role("img", name="Picture 3 of 3")).to_be_visible()
        page.keyboard.press("ArrowRight")
        expect(dialog.get_by_role("img", name="Picture 1 of 3")).to_be_visible()
        page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
        expect(second).to_be_focused()


def test_the_divider_moves(browser: Browser, client: Client, worker: FakeWorker) -> None:
    with opened(browser, client) as page:
        states.relit(page, worker)
        divider = page.get_by_role("slider", name="Divider between before and after")
        tab_to(divider)
        for key, place in (("ArrowLeft", "45"), ("ArrowRight", "50"), ("End", "100"), ("Home", "0")):
            page.keyboard.press(key)
            expect(divider).to_have_attribute("aria-valuenow", place)
            assert divider.evaluate("slider => slider.value") == int(place)
        box = divider.bounding_box()
        assert box is not None
        divider.click(position={"x": box["width"] / 4, "y": box["height"] / 2})
        expect(divider).to_have_attribute("aria-valuenow", re.compile(r"^2\d$"))


def test_code_is_copied(browser: Browser, client: Client, worker: FakeWorker) -> None:
    with opened(browser, client, permissions=["clipboard-read", "clipboard-write"]) as page:
        tab_to(page.get_by_text("Code for these settings"))
        page.keyboard.press("Enter")
        tab_to(page.get_by_role("radio", name="curl"))
        page.keyboard.press("ArrowRight")
        tab_to(page.get_by_role("button", name="Copy code"))
        page.keyboard.press("Enter")
        expect(page.get_by_role("status").filter(has_text="Copied")).to_be_visible()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert "segmind" in copied
        assert copied.strip() == page.locator("pre").inner_text().strip()


REACHED = [states.empty, states.filled, states.filled_portrait, states.with_code, states.several, states.failed]


@pytest.mark.parametrize("state", REACHED, ids=lambda state: state.__name__)
def test_every_stop_is_reached_and_seen(
    browser: Browser, client: Client, worker: FakeWorker, state: states.State
) -> None:
    with opened(browser, client) as page:
        worker.announce()
        state(page, worker)
        stops = page.evaluate(NUMBER_STOPS)
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        page.locator("h1").click()
        reached = []
        for _ in range(2 * len(stops) + 20):
            page.keyboard.press("Tab")
            at = page.evaluate(AT_STOP)
            if at is None:
                break
            assert page.evaluate(SHOWS_FOCUS), f"no focus is shown on {at}"
            assert page.evaluate(IS_SEEN), f"something covers {at}"
            reached.append(at)
        else:
            raise AssertionError("the focus does not leave the page")
        missing = [stop for stop in stops if stop.split(":")[0] not in reached]
        assert not missing
        assert reached == [str(number) for number in range(len(stops))], "not in the order of the page"


def test_states_are_told(browser: Browser, client: Client, worker: FakeWorker) -> None:
    with opened(browser, client) as page:
        told = page.locator(".right").get_by_role("status")
        expect(told).to_have_text("")
        states.waiting(page, worker)
        expect(told).to_have_text("The request waits.")
        (request_id,) = unfinished(worker.redis)
        worker.start(request_id)
        expect(told).to_have_text("A worker is at it.")
        worker.complete(request_id)
        expect(told).to_have_text("The picture is ready.")
        page.get_by_role("button", name="Same again").click()
        worker.fail(worker.await_request("ic-light"))
        expect(told).to_have_text("The request has failed: No face was found in the picture.")


def test_a_refusal_is_told_at_the_field(browser: Browser, client: Client, worker: FakeWorker) -> None:
    with opened(browser, client) as page:
        states.refused(page, worker)
        steps = page.get_by_label("Steps steps")
        expect(steps).to_have_attribute("aria-invalid", "true")
        expect(steps).to_have_accessible_description(
            "1 to 100. Denoise steps of each of the two passes. " + page.locator("#field-steps-error").inner_text()
        )
        expect(page.get_by_role("alert").last).to_be_visible()


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_less_motion_is_honoured(browser: Browser, client: Client, worker: FakeWorker, motion: str) -> None:
    with opened(browser, client, reduced_motion=motion) as page:
        states.waiting(page, worker)
        page.mouse.move(0, 0)
        page.get_by_role("radio", name="Left").check()
        moving = page.evaluate("document.getAnimations().length")
        assert (moving == 0) == (motion == "reduce")


def test_forced_colours_show_what_is_chosen(browser: Browser, client: Client, worker: FakeWorker) -> None:
    colours = """found => found.map(input => {
      const { backgroundColor, color } = getComputedStyle(input.nextElementSibling);
      return [input.checked, backgroundColor, color];
    })"""
    with opened(browser, client, forced_colors="active") as page:
        states.filled(page, worker)
        for group in (".models", ".sides", ".segments"):
            found = page.locator(f"{group} input").evaluate_all(colours)
            chosen = {(background, ink) for checked, background, ink in found if checked}
            others = {(background, ink) for checked, background, ink in found if not checked}
            assert len(chosen) == 1
            assert not chosen & others
            assert all(background != ink for background, ink in chosen | others)


NARROW = [states.empty, states.filled, states.filled_portrait, states.refused, states.running, states.relit,
          states.several, states.with_code, states.in_full_view, states.failed]  # fmt: skip


@pytest.mark.parametrize("state", NARROW, ids=lambda state: state.__name__)
def test_nothing_is_wider_than_a_narrow_window(
    browser: Browser, client: Client, worker: FakeWorker, state: states.State
) -> None:
    """320 CSS pixels: a phone, or a laptop's window at 400 %."""
    with opened(browser, client, viewport={"width": 320, "height": 640}) as page:
        worker.announce()
        state(page, worker)
        assert page.evaluate("document.documentElement.scrollWidth") == 320
        assert not page.locator("#app *:not(pre *)").evaluate_all(BEYOND_THE_WINDOW)
