"""Take the README's picture of the page: `make screenshots`, two minutes.

A server with demo weights makes a real picture in a real browser; nothing outside this machine is asked.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.sync_api import Page, expect

from tests.live_server import live_server
from tests.server.page.browser import chromium, visiting

PICTURE: Final = Path(__file__).with_name("page.png")
_SIZE: Final = {"width": 1366, "height": 960}
_PATIENCE_MS: Final = 300_000
_SAVED: Final = (900, 632)
"""Pixels of the file: whole, it would be twice as large."""


def relight(page: Page) -> None:
    """Have the sample photo relit, as a visitor would."""
    page.get_by_role("button", name="Use the sample photo").click()
    page.get_by_label("Prompt prompt", exact=True).fill("astronaut")
    page.get_by_role("button", name="Sunset").click()
    page.get_by_role("radio", name="Right").check()
    page.get_by_text("More settings").click()
    page.get_by_label("Seed seed").fill("42")
    page.get_by_text("More settings").click()
    page.get_by_role("button", name="Relight", exact=True).click()
    expect(page.locator("img-comparison-slider.rendered")).to_be_visible(timeout=_PATIENCE_MS)
    page.wait_for_load_state("networkidle")
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")


def main() -> None:
    """Run the server and the browser, and write the picture with a palette: a third of the size, and no eye sees it."""
    with tempfile.TemporaryDirectory() as name, live_server(Path(name), None) as server, chromium() as browser:
        server.wait_until_ready("ic-light", timeout_s=300)
        with visiting(browser, server.url, viewport=_SIZE, color_scheme="light", reduced_motion="reduce") as visit:
            relight(visit.page)
            taken = visit.page.screenshot()
    with Image.open(io.BytesIO(taken)) as picture:
        picture.convert("RGB").resize(_SAVED, Image.Resampling.LANCZOS).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
