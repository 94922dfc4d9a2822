"""What is asked of ic-light: every photo lit from four sides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from cli.accept.checks import image, light, subject
from cli.accept.client import Answer, Ask
from cli.accept.luma import Rgb
from cli.accept.photos import Photo
from cli.accept.scenario import FIRST_SEED, Group, Judge, Scope, changed, pixels, right_sizes, seeds, unless

SLUG: Final = "ic-light"
_PAIRS: Final = (light.HORIZONTAL, light.VERTICAL)


def relit(scope: Scope) -> Iterator[Group]:
    """One group per photo."""
    for photo in scope.photos:
        base = scene(scope, photo)
        lit = [changed(base, source, light_source=source) for pair in _PAIRS for source in (pair.near, pair.far)]
        asks = tuple(ask for lamp in lit for ask in seeds(lamp, scope.seeds))
        yield Group(SLUG, f"{photo.shows.capitalize()}, lit from four sides", asks, _judges(scope, photo))


def scene(scope: Scope, photo: Photo) -> Ask:
    """One request, lossless."""
    params = {
        "prompt": f"{photo.shows}, natural lighting",
        "light_source": "Left Light",
        "seed": FIRST_SEED,
        "output_format": "png",
    }
    return Ask(SLUG, photo, {**params, **scope.sizes[SLUG].usual}, "")


def _judges(scope: Scope, photo: Photo) -> tuple[Judge, ...]:
    unjudged = scope.unjudged.get(SLUG)
    return (
        *(unless(unjudged, pair.title, _lit_from(pair)) for pair in _PAIRS),
        unless(unjudged, subject.TITLE, lambda answers: subject.kept(photo.pixels(), photo.subject, pixels(answers))),
        unless(unjudged, image.TITLE, lambda answers: image.natural(pixels(answers))),
        right_sizes,
    )


def _lit_from(pair: light.Opposites) -> Judge:
    return lambda answers: light.lit_from(pair, _lit(answers, pair.near), _lit(answers, pair.far))


def _lit(answers: Sequence[Answer], light_source: str) -> list[Rgb]:
    return [answer.pixels for answer in answers if answer.ask.params["light_source"] == light_source]
