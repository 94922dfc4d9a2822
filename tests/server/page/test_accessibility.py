"""The page in all its states has none of the faults that axe-core finds: contrast, names, roles, sizes, structure."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.server.conftest import MakeSettings
from tests.server.page import states
from tests.server.page.browser import LAPTOP, PHONE, visiting
from tests.server.support import KEYS, Client, FakeWorker, serving

AXE = Axe()
OPTIONS = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}
"""All rules that are on without being asked for, and the size of what is pressed (WCAG 2.2)."""

STATES: list[states.State] = [
    states.empty,
    states.filled,
    states.filled_portrait,
    states.refused,
    states.waiting,
    states.running,
    states.relit,
    states.several,
    states.in_full_view,
    states.with_code,
    states.failed,
    states.gone,
]


def faults(page: Page) -> Iterator[str]:
    """What axe-core finds in dark and light, on a laptop and a phone."""
    for scheme in ("light", "dark"):
        for name, size in (("laptop", LAPTOP), ("phone", PHONE)):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.set_viewport_size(size)  # type: ignore[arg-type]
            # To the end: on the way the bar with the button lies over what is scrolled below it.
            page.evaluate("scrollTo(0, document.body.scrollHeight)")
            found = AXE.run(page, options=OPTIONS)
            if found.violations_count:
                yield f"{scheme}, {name}: {found.generate_report()}"


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_every_state_is_accessible(browser: Browser, client: Client, worker: FakeWorker, state: states.State) -> None:
    worker.announce()
    # Without transitions: colours are judged once they have changed.
    with visiting(browser, str(client.base_url), reduced_motion="reduce") as visit:
        expect(visit.page.get_by_label("About the weights")).to_be_visible()
        state(visit.page, worker)
        found = list(faults(visit.page))
        assert not found, "\n".join(found)


def test_the_entry_of_the_key_is_accessible(browser: Browser, make_settings: MakeSettings) -> None:
    with (
        serving(make_settings(api_keys=KEYS)) as client,
        visiting(browser, str(client.base_url), reduced_motion="reduce") as visit,
    ):
        visit.page.get_by_label("API key").fill("SG_wrong")
        visit.page.get_by_role("button", name="Use this key").click()
        visit.page.locator(".send button").click()
        expect(visit.page.locator(".key [aria-invalid=true]")).to_be_visible()
        found = list(faults(visit.page))
        assert not found, "\n".join(found)
