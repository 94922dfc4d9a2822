"""Both models from the page to the file, by a whole server with demo weights and its own worker."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.live_server import LiveServer
from tests.server.page.browser import choose_model, downloaded, order, visiting
from workers.store.open import open_store


def _set(page: Page, **fields: str) -> None:
    page.get_by_text("More settings").click()
    for name, value in fields.items():
        field = page.locator(f"#field-{name}")
        if field.evaluate("(element) => element.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)


@pytest.mark.parametrize(
    ("slug", "photo", "settings"),
    [
        ("ic-light", "cat.png", {"width": "256", "height": "256", "steps": "2", "highres_scale": "1"}),
        ("pulid-lightning", "face.png", {"width": "256", "height": "256"}),
    ],
)
def test_from_a_photo_to_a_file(
    browser: Browser, live: LiveServer, photos: Path, slug: str, photo: str, settings: dict[str, str]
) -> None:
    with visiting(browser, live.url) as visit:
        page = visit.page
        choose_model(page, slug)
        expect(page.get_by_label("About the weights")).to_contain_text("Demo weights.")
        expect(page.locator(".server summary")).to_contain_text("Ready · 1 worker")
        _set(page, **settings)
        card = order(page, "a cat by a window", (photos / photo).read_bytes())
        name, data = downloaded(card)
        stored = card.get_by_alt_text(re.compile("^(After|Picture 1)")).get_attribute("src")
        assert stored is not None
        assert data == open_store(str(live.log.parent / "store")).read(stored.rpartition("/")[2])
        assert name.startswith(f"{slug}-")
        assert Image.open(BytesIO(data)).size == (256, 256)
