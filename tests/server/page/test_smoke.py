"""The page opens."""

from __future__ import annotations

from playwright.sync_api import Browser, expect

from tests.server.page.browser import visiting
from tests.server.support import Client


def test_the_page_opens(browser: Browser, client: Client) -> None:
    with visiting(browser, str(client.base_url)) as visit:
        expect(visit.page.get_by_role("heading", name="facelight")).to_be_visible()
