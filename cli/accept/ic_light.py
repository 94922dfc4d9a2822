"""Scenarios of ic-light: every photo lit from four sides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from cli.accept.checks import image, light, subject
from cli.accept.client import ImageRequest, ImageResponse
from cli.accept.photos import Photo
from cli.accept.scenario import (
    FIRST_SEED,
    Check,
    ModelScenarios,
    Scenario,
    Scope,
    Sizes,
    changed,
    pixels,
    right_sizes,
    seeds,
    skip_if,
)
from models.imaging.types import Rgb

SLUG: Final = "ic-light"
_PAIRS: Final = (light.HORIZONTAL, light.VERTICAL)


def _relit(scope: Scope) -> Iterator[Scenario]:
    """One scenario per photo."""
    for photo in scope.photos:
        base = _scene(scope, photo)
        lit = [changed(base, source, light_source=source) for pair in _PAIRS for source in (pair.near, pair.far)]
        requests = tuple(request for one in lit for request in seeds(one, scope.seeds))
        yield Scenario(SLUG, f"{photo.shows.capitalize()}, lit from four sides", requests, _checks(scope, photo))


def _scene(scope: Scope, photo: Photo) -> ImageRequest:
    """One request for a lossless image."""
    params = {
        "prompt": f"{photo.shows}, natural lighting",
        "light_source": "Left Light",
        "seed": FIRST_SEED,
        "output_format": "png",
    }
    return ImageRequest(SLUG, photo, {**params, **scope.sizes.usual}, "")


def _checks(scope: Scope, photo: Photo) -> tuple[Check, ...]:
    reason = scope.skip_reason
    return (
        *(skip_if(reason, pair.title, _lit_from(pair)) for pair in _PAIRS),
        skip_if(
            reason, subject.TITLE, lambda responses: subject.kept(photo.pixels(), photo.subject, pixels(responses))
        ),
        skip_if(reason, image.TITLE, lambda responses: image.image_quality(pixels(responses))),
        right_sizes,
    )


def _lit_from(pair: light.Opposites) -> Check:
    return lambda responses: light.lit_from(pair, _lit(responses, pair.near), _lit(responses, pair.far))


def _lit(responses: Sequence[ImageResponse], light_source: str) -> list[Rgb]:
    return [response.pixels for response in responses if response.request.params["light_source"] == light_source]


_FAST: Final = {"steps": 2, "highres_scale": 1}
SCENARIOS: Final = ModelScenarios(
    content=_relit,
    base=lambda scope: _scene(scope, scope.photos[0]),
    full=Sizes({}, {"width": 640, "height": 512}),
    quick=Sizes({"width": 256, "height": 320, **_FAST}, {"width": 320, "height": 256, **_FAST}),
)
