"""The page: complete, self-contained, and escaped."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from cli.accept.client import ImageRequest
from cli.accept.photos import CAT
from cli.accept.report import write_page
from cli.accept.result import CheckResult, at_least, passed_if, skipped
from cli.accept.run import Report, ScenarioResult
from cli.accept.scenario import Scenario
from models.imaging.decode import decode
from tests.cli.accept.pictures import fitted, response

GOOD, BAD = (
    at_least("Subject kept", 0.71, 0.25, "Edges agree."),
    passed_if("Size as requested", False, "Found <b>8 px</b>."),
)
OPEN = skipped("Image quality", "Cannot be checked on demo weights.")


class Links(HTMLParser):
    """Everything that a page loads or leads to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]


def report(*results: CheckResult) -> Report:
    requests = [
        ImageRequest("ic-light", CAT, {"output_format": image_format, "seed": 1}, f"<{image_format}>")
        for image_format in ("png", "jpg")
    ]
    scenario = Scenario("ic-light", "A cat & four lights", tuple(requests), ())
    responses = tuple(
        response(request, fitted(CAT, 320, 256), seconds) for request, seconds in zip(requests, (1.5, 2.5), strict=True)
    )
    return Report(
        server="http://127.0.0.1:8000, facelight 1.2.3",
        settings="2 seeds each",
        date="2026-01-02 03:04 UTC",
        models={
            "ic-light": {"ready": True, "weights": "real", "variants": ["foreground"], "detail": ""},
            "pulid-lightning": {"ready": False, "weights": None, "detail": "a file is missing"},
        },
        weights=[("sd15", "realistic-vision", "OpenRAIL-M <1.0>")],
        scenarios=[ScenarioResult(scenario, responses, results)],
    )


def text_of(folder: Path, *results: CheckResult) -> str:
    return write_page(report(*results), folder).read_text()


@pytest.mark.parametrize(
    ("results", "headline"),
    [
        ([GOOD], "Passed: 1 passed"),
        ([GOOD, OPEN], "Runs; not all checked: 1 passed, 1 skipped"),
        ([GOOD, OPEN, BAD], "Failed: 1 passed, 1 failed, 1 skipped"),
    ],
)
def test_the_summary_is_on_top(tmp_path: Path, results: list[CheckResult], headline: str):
    text = text_of(tmp_path, *results)
    assert headline in text
    assert text.index(headline) < text.index("<h2>")


def test_failed_and_skipped_checks_are_listed_first(tmp_path: Path):
    top = text_of(tmp_path, GOOD, OPEN, BAD).split("<h2>")[0]
    assert "ic-light, A cat &amp; four lights: Size as requested" in top
    assert "Cannot be checked on demo weights." in top
    assert "Subject kept" not in top


def test_the_page_holds_all_results(tmp_path: Path):
    text = text_of(tmp_path, GOOD)
    for words in (
        "0.71, at least 0.25",
        "facelight 1.2.3",
        "2026-01-02 03:04 UTC",
        "real weights; variants: foreground",
        "not served: a file is missing",
        "<td>ic-light</td><td>320 × 256</td><td>2</td><td>2.00</td><td>2.50</td>",
        "OpenRAIL-M &lt;1.0&gt;",
        "Stefan van der Walt; CC0",
    ):
        assert words in text


def test_nothing_is_loaded_from_a_network(tmp_path: Path):
    text = text_of(tmp_path, GOOD)
    links = Links(text).found
    pictures = [link for link in links if not link.startswith("data:image/webp;base64,")]
    assert pictures == ["pictures/01-1.png", "pictures/01-2.jpg"]
    for link in pictures:
        assert decode((tmp_path / link).read_bytes()).size == (320, 256)
    assert "@import" not in text
    assert "url(" not in text


def test_text_from_outside_is_escaped(tmp_path: Path):
    text = text_of(tmp_path, BAD)
    assert "Found &lt;b&gt;8 px&lt;/b&gt;." in text
    assert "&lt;png&gt;" in text
    assert "<png>" not in text
