"""Scenarios of pulid-lightning: every checkpoint in every face style."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Final

from cli.accept.checks import identity, image
from cli.accept.client import ImageRequest, ImageResponse
from cli.accept.local_weights import Recogniser
from cli.accept.photos import ASTRONAUT
from cli.accept.result import CheckResult
from cli.accept.scenario import (
    FIRST_SEED,
    Check,
    ModelScenarios,
    Scenario,
    Scope,
    Sizes,
    pixels,
    right_sizes,
    seeds,
    skip_if,
)

SLUG: Final = "pulid-lightning"
_PROMPT: Final = "portrait photo of a woman, looking at the camera"
"""A plain photo: faces in paintings are hard to recognise."""
CHECKPOINTS: Final = ("default", "artistic", "realistic")
_ABSENT: Final = "This server does not keep the checkpoint."


def _portraits(scope: Scope) -> Iterator[Scenario]:
    """One scenario per checkpoint and face style."""
    for checkpoint, face_style in product(CHECKPOINTS, identity.THRESHOLDS):
        title = f"Checkpoint {checkpoint}, {face_style}"
        if checkpoint not in scope.variants:
            yield Scenario(SLUG, title, (), (skip_if(_ABSENT, identity.TITLE, right_sizes),))
            continue
        requests = seeds(_portrait(scope, checkpoint, face_style), scope.seeds)
        yield Scenario(SLUG, title, tuple(requests), _checks(scope, face_style))


def _portrait(scope: Scope, checkpoint: str, face_style: str = "high-fidelity") -> ImageRequest:
    """One request for a lossless image."""
    params = {
        "prompt": _PROMPT,
        "checkpoint_model": checkpoint,
        "face_style": face_style,
        "seed": FIRST_SEED,
        "output_format": "png",
    }
    return ImageRequest(SLUG, ASTRONAUT, {**params, **scope.sizes.usual}, "")


def _checks(scope: Scope, face_style: str) -> tuple[Check, ...]:
    return (
        _same_person(scope.skip_reason, scope.recogniser, face_style),
        skip_if(scope.skip_reason, image.TITLE, lambda responses: image.image_quality(pixels(responses))),
        right_sizes,
    )


def _same_person(reason: str | None, recogniser: Recogniser | str, face_style: str) -> Check:
    def check(responses: Sequence[ImageResponse]) -> CheckResult:
        assert not isinstance(recogniser, str)
        faces = [recogniser(picture) for picture in pixels(responses)]
        return identity.same_person(recogniser(ASTRONAUT.pixels()), faces, face_style)

    return skip_if(reason or (recogniser if isinstance(recogniser, str) else None), identity.TITLE, check)


def _base(scope: Scope) -> ImageRequest:
    return _portrait(scope, next(name for name in CHECKPOINTS if name in scope.variants))


SCENARIOS: Final = ModelScenarios(
    content=_portraits,
    base=_base,
    full=Sizes({}, {"width": 832, "height": 1216}),
    quick=Sizes({"width": 256, "height": 256}, {"width": 320, "height": 256}),
)
