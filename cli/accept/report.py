"""The report: one HTML page that loads nothing from a network, and the images beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any, Final

from PIL import Image

from cli.accept.client import ImageResponse
from cli.accept.page_style import STYLE
from cli.accept.photos import PHOTOS
from cli.accept.result import CheckResult, Outcome
from cli.accept.run import Report, ScenarioResult, in_parentheses

_THUMBNAIL_PX: Final = 384
_PICTURES: Final = "pictures"


def write_page(report: Report, folder: Path) -> Path:
    """Write `index.html` and the pictures into `folder`; returns the page's path."""
    (folder / _PICTURES).mkdir(parents=True, exist_ok=True)
    sections = "".join(
        f"<h2>{escape(slug)}</h2>" + "".join(_group(number, scenario, folder) for number, scenario in numbered)
        for slug, numbered in groupby(enumerate(report.scenarios, 1), key=lambda pair: pair[1].scenario.slug)
    )
    body = _banner(report) + _about(report) + sections + _seconds(report.scenarios) + _weights(report) + _credits()
    page = folder / "index.html"
    page.write_text(_document(body), encoding="utf-8")
    return page


def _document(body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>facelight: acceptance</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>\n"
    )


def _banner(report: Report) -> str:
    banner = f'<p class="banner {_css(report.outcome)}">{escape(report.summary)}</p>'
    return f"<h1>facelight: acceptance</h1>{banner}{_reasons(report)}"


def _reasons(report: Report) -> str:
    """The failed checks, and why others were skipped."""
    failed = [
        f"{scenario.scenario.slug}, {scenario.scenario.title}: {result.title}{in_parentheses(result.measured)}"
        for scenario in report.scenarios
        for result in scenario.results
        if result.outcome is Outcome.FAILED
    ]
    skipped = [result.message for result in report.results if result.outcome is Outcome.SKIPPED]
    lines = "".join(f"<li>{escape(line)}</li>" for line in (*failed, *dict.fromkeys(skipped)))
    return f"<ul>{lines}</ul>" if lines else ""


def _about(report: Report) -> str:
    rows = [
        ("Server", report.server),
        ("Date", report.date),
        ("Run", report.settings),
        *((slug, _details(health)) for slug, health in report.models.items()),
    ]
    return _table((), rows)


def _details(health: Mapping[str, Any]) -> str:
    """What `/health/ready` reports of one model."""
    if not health["ready"]:
        return f"not served: {health['detail']}"
    others = [
        f"{name}: {_words(value)}" for name, value in health.items() if name not in ("ready", "weights") and value
    ]
    return "; ".join([f"{health['weights']} weights", *others])


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _group(number: int, scenario: ScenarioResult, folder: Path) -> str:
    figures = "".join(
        _figure(f"{number:02}-{index}", response, folder) for index, response in enumerate(scenario.responses, 1)
    )
    results = "".join(map(_result, scenario.results))
    photo = _photo(scenario.responses[0]) if scenario.responses else ""
    return (
        f"<section><h3>{escape(scenario.scenario.title)}</h3>"
        f'<div class="pictures">{photo}{figures}</div><ul>{results}</ul></section>'
    )


def _result(result: CheckResult) -> str:
    mark = f'<span class="mark {_css(result.outcome)}">{result.outcome.value}</span>'
    asked = f"<b>{escape(result.title)}</b>{escape(in_parentheses(result.measured))}"
    return f"<li>{mark} {asked}<br><small>{escape(result.message)}</small></li>"


def _photo(response: ImageResponse) -> str:
    source = _data_uri(Image.open(io.BytesIO(response.request.photo.read())))
    caption = "the photo sent"
    return f'<value class="sent"><img src="{source}" alt="{caption}"><figcaption>{caption}</figcaption></value>'


def _figure(name: str, response: ImageResponse, folder: Path) -> str:
    suffix = response.request.params["output_format"]
    file = f"{_PICTURES}/{name}.{suffix}"
    (folder / file).write_bytes(response.data)
    width, height = response.size
    caption = escape(response.request.caption)
    picture = f'<a href="{file}"><img src="{_data_uri(Image.fromarray(response.pixels))}" alt="{caption}"></a>'
    details = f"<small>{width} × {height}, {suffix}, {response.inference_s:.1f}&nbsp;s</small>"
    return f"<value>{picture}<figcaption>{caption}<br>{details}</figcaption></value>"


def _data_uri(picture: Image.Image) -> str:
    picture.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    out = io.BytesIO()
    picture.convert("RGB").save(out, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"


def _seconds(scenario: Sequence[ScenarioResult]) -> str:
    responses = sorted((response for one in scenario for response in one.responses), key=_kind)
    rows = []
    for (slug, (width, height)), same in groupby(responses, key=_kind):
        alike = list(same)
        computing = median(response.inference_s for response in alike)
        waiting = median(response.wall_s for response in alike)
        rows.append((slug, f"{width} × {height}", str(len(alike)), f"{computing:.2f}", f"{waiting:.2f}"))
    head = ("Model", "Picture", "Requests", "Computing, s", "Until it was here, s")
    return "<h2>Seconds per request</h2><p>Medians.</p>" + _table(head, rows)


def _kind(response: ImageResponse) -> tuple[str, tuple[int, int]]:
    return response.request.slug, response.size


def _weights(report: Report) -> str:
    if not report.weights:
        return "<h2>Weights</h2><p>The server's weights folder cannot be read from where this ran.</p>"
    note = "<p>These licences say what the pictures may be used for; facelight's own does not change that.</p>"
    return "<h2>Weights</h2>" + _table(("Role", "Weight", "Licence"), report.weights) + note


def _credits() -> str:
    items = "".join(f"<li>{escape(photo.name)}: {escape(photo.credit)}</li>" for photo in PHOTOS)
    return f"<h2>Photos</h2><ul>{items}</ul>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{top}</tr>{body}</table></div>'


def _css(outcome: str) -> str:
    return outcome.replace(" ", "-")
