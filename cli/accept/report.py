"""The report: one HTML page that loads nothing from a network, and the images beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from cli.accept.client import ImageResponse
from cli.accept.photos import PHOTOS
from cli.accept.result import CheckResult, Outcome
from cli.accept.run import Report, ScenarioResult, in_parentheses

_THUMBNAIL_PX: Final = 384
_IMAGES: Final = "pictures"
_TEMPLATE: Final = "report.html.j2"


@dataclass(frozen=True)
class _Figure:
    """One image on the page: path of its file from the page, thumbnail as a data URI, caption, details below it."""

    file: str
    thumbnail: str
    caption: str
    details: str


@dataclass(frozen=True)
class _Section:
    """One scenario on the page; `photo` is a data URI, None without a response."""

    title: str
    photo: str | None
    images: Sequence[_Figure]
    results: Sequence[CheckResult]


def write_page(report: Report, folder: Path) -> Path:
    """Write `index.html` and the images into `folder`; returns the page's path."""
    (folder / _IMAGES).mkdir(parents=True, exist_ok=True)
    models = [
        (slug, [_section(number, result, folder) for number, result in numbered])
        for slug, numbered in groupby(enumerate(report.scenarios, 1), key=lambda pair: pair[1].scenario.slug)
    ]
    about = [
        ("Server", report.server),
        ("Date", report.date),
        ("Run", report.settings),
        *((slug, _details(health)) for slug, health in report.models.items()),
    ]
    # `autoescape` covers everything that comes from the server.
    templates = Environment(loader=PackageLoader("cli.accept", ""), autoescape=True, undefined=StrictUndefined)
    page = folder / "index.html"
    page.write_text(
        templates.get_template(_TEMPLATE).render(
            report=report,
            reasons=_reasons(report),
            about=about,
            models=models,
            seconds=list(_seconds(report.scenarios)),
            photos=PHOTOS,
        ),
        encoding="utf-8",
    )
    return page


def _reasons(report: Report) -> list[str]:
    """The failed checks, and why others were skipped."""
    failed = [
        f"{one.scenario.slug}, {one.scenario.title}: {result.title}{in_parentheses(result.measured)}"
        for one in report.scenarios
        for result in one.results
        if result.outcome is Outcome.FAILED
    ]
    skipped = [result.message for result in report.results if result.outcome is Outcome.SKIPPED]
    return [*failed, *dict.fromkeys(skipped)]


def _details(health: Mapping[str, Any]) -> str:
    """What `/health/ready` reports of one model."""
    if not health["ready"]:
        return f"not served: {health['detail']}"
    others = [
        f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in health.items()
        if name not in ("ready", "weights") and value
    ]
    return "; ".join([f"{health['weights']} weights", *others])


def _section(number: int, result: ScenarioResult, folder: Path) -> _Section:
    responses = result.responses
    return _Section(
        title=result.scenario.title,
        photo=_data_uri(Image.open(io.BytesIO(responses[0].request.photo.read()))) if responses else None,
        images=[_figure(f"{number:02}-{index}", response, folder) for index, response in enumerate(responses, 1)],
        results=result.results,
    )


def _figure(name: str, response: ImageResponse, folder: Path) -> _Figure:
    suffix = response.request.params["output_format"]
    file = f"{_IMAGES}/{name}.{suffix}"
    (folder / file).write_bytes(response.data)
    width, height = response.size
    details = f"{width} × {height}, {suffix}, {response.inference_s:.1f}\N{NO-BREAK SPACE}s"
    return _Figure(file, _data_uri(Image.fromarray(response.pixels)), response.request.caption, details)


def _data_uri(picture: Image.Image) -> str:
    """A WebP thumbnail as a data URI."""
    picture.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    out = io.BytesIO()
    picture.convert("RGB").save(out, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"


def _seconds(scenarios: Sequence[ScenarioResult]) -> Iterator[tuple[str, ...]]:
    """Rows by model and size: number of requests, median of the inference and of the whole request in seconds."""

    def model_and_size(response: ImageResponse) -> tuple[str, tuple[int, int]]:
        return response.request.slug, response.size

    responses = sorted((response for one in scenarios for response in one.responses), key=model_and_size)
    for (slug, (width, height)), grouped in groupby(responses, key=model_and_size):
        alike = list(grouped)
        inference_s = median(response.inference_s for response in alike)
        wall_s = median(response.wall_s for response in alike)
        yield slug, f"{width} × {height}", str(len(alike)), f"{inference_s:.2f}", f"{wall_s:.2f}"
