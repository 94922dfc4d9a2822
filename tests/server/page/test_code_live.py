"""The page's code gives the page's pictures: every byte, from a whole server with demo weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.live_server import LiveServer
from tests.server.page.browser import visiting
from tests.server.page.programs import LANGUAGES, VERSIONS, card_code, link, run, shown_code

RELIT = {"prompt": "cat, warm sunset light", "width": 256, "height": 256, "steps": 2, "highres_scale": 1}
PORTRAIT = {"prompt": "portrait, oil painting", "width": 256, "height": 256}


class Sent(NamedTuple):
    """A request that was made on the page: its pictures, and its code by language and version."""

    pictures: set[bytes]
    code: dict[tuple[str, str], str]


class Maker:
    """Makes pictures on the page, each method another way, and returns the request's card."""

    def __init__(self, page: Page, server: str, photos: Path, photo_url: str) -> None:
        self.page, self.server, self.photos, self.photo_url = page, server, photos, photo_url

    def file(self) -> Locator:
        """One picture, of a file."""
        self._restore("ic-light", **RELIT, light_source="Left Light", output_format="png")
        self._choose("subject_image", "cat.png")
        return self._make()

    def sample(self) -> Locator:
        """Several portraits, of the sample photo."""
        self._restore("pulid-lightning", **PORTRAIT, number_of_images=3)
        return self._make_of_sample()

    def address(self) -> Locator:
        """Several pictures of one that the server fetches, before the picture of a file."""
        self._restore("ic-light", **RELIT, number_of_images=2, cfg=7)
        self.page.get_by_label("Photo of the subject: URL").fill(f"{self.photo_url}/cat.png")
        self.page.keyboard.press("Enter")
        self.page.get_by_text("More settings").click()
        self._choose("background_image", "cup.png")
        return self._make()

    def result(self) -> Locator:
        """A portrait that was made before, relit."""
        self._restore("ic-light", **RELIT)
        self._restore("pulid-lightning", **PORTRAIT)
        self._make_of_sample().get_by_role("button", name="Relight this").click()
        return self._make()

    def _restore(self, slug: str, **values: object) -> None:
        self.page.goto(link(self.server, slug, **values))
        expect(self.page.get_by_role("radio", name=slug)).to_be_checked()

    def _choose(self, field: str, name: str) -> None:
        self.page.locator(f"[data-field={field}] input[type=file]").first.set_input_files(self.photos / name)

    def _make_of_sample(self) -> Locator:
        self.page.get_by_role("button", name="Use the sample photo").click()
        return self._make()

    def _make(self) -> Locator:
        number = self.page.get_by_role("article").count()
        self.page.locator("form.make button[type=submit]").click()
        expect(self.page.get_by_role("article")).to_have_count(number + 1)
        card = self.page.get_by_role("article").first
        expect(card.get_by_text("kept for")).to_be_visible(timeout=120_000)
        return card


PICTURES = {"file": 1, "sample": 3, "address": 2, "result": 1}
"""How many each method of `Maker` makes."""


@pytest.fixture(scope="module")
def sent(browser: Browser, live: LiveServer, photos: Path, photo_url: str) -> Callable[[str], Sent]:
    """Makes pictures on the page, in each of the ways once."""

    @cache
    def send(way: str) -> Sent:
        with visiting(browser, live.url) as visit:
            card = getattr(Maker(visit.page, live.url, photos, photo_url), way)()
            sources = [image.get_attribute("src") for image in card.locator('img[src*="/files/"]').all()]
            pictures = {httpx.get(str(source)).raise_for_status().content for source in sources}
            section = card_code(card)
            code = {(name, version): shown_code(section, name, version) for name in LANGUAGES for version in VERSIONS}
        assert len(pictures) == PICTURES[way]
        return Sent(pictures, code)

    return send


IN_THE_DEFAULT_RUN = {("file", "v1"), ("sample", "v2"), ("address", "v1")}
CASES = [
    pytest.param(way, version, language, marks=() if (way, version) in IN_THE_DEFAULT_RUN else pytest.mark.slow)
    for way, version, language in product(PICTURES, VERSIONS, LANGUAGES)
]


@pytest.mark.parametrize(("way", "version", "language"), CASES)
def test_the_code_gives_the_same_bytes(
    sent: Callable[[str], Sent], way: str, version: str, language: str, photos: Path, tmp_path: Path
) -> None:
    for photo in photos.iterdir():
        (tmp_path / photo.name).symlink_to(photo)
    made = sent(way)
    assert run(made.code[language, version], language, tmp_path) == made.pictures
