"""What is asked of pulid-lightning: every checkpoint in every face style."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Final

from cli.accept.checks import identity, image
from cli.accept.client import Answer, Ask
from cli.accept.local_weights import Recogniser
from cli.accept.photos import ASTRONAUT
from cli.accept.result import Verdict
from cli.accept.scenario import CHECKPOINTS, FIRST_SEED, Group, Judge, Scope, pixels, right_sizes, seeds, unless

SLUG: Final = "pulid-lightning"
_PROMPT: Final = "portrait photo of a woman, looking at the camera"
"""A plain photo: in a painting the recogniser would judge the painter."""
_ABSENT: Final = "This server does not keep the checkpoint."


def portraits(scope: Scope) -> Iterator[Group]:
    """One group per checkpoint and face style."""
    for checkpoint, face_style in product(CHECKPOINTS, identity.THRESHOLDS):
        title = f"Checkpoint {checkpoint}, {face_style}"
        if checkpoint not in scope.checkpoints:
            yield Group(SLUG, title, (), (unless(_ABSENT, identity.TITLE, right_sizes),))
            continue
        asks = seeds(portrait(scope, checkpoint, face_style), scope.seeds)
        yield Group(SLUG, title, tuple(asks), _judges(scope, face_style))


def portrait(scope: Scope, checkpoint: str, face_style: str = "high-fidelity") -> Ask:
    """One request, lossless."""
    params = {
        "prompt": _PROMPT,
        "checkpoint_model": checkpoint,
        "face_style": face_style,
        "seed": FIRST_SEED,
        "output_format": "png",
    }
    return Ask(SLUG, ASTRONAUT, {**params, **scope.sizes[SLUG].usual}, "")


def _judges(scope: Scope, face_style: str) -> tuple[Judge, ...]:
    unjudged = scope.unjudged.get(SLUG)
    return (
        _same_person(unjudged, scope.recogniser, face_style),
        unless(unjudged, image.TITLE, lambda answers: image.natural(pixels(answers))),
        right_sizes,
    )


def _same_person(unjudged: str | None, recogniser: Recogniser | str, face_style: str) -> Judge:
    def judge(answers: Sequence[Answer]) -> Verdict:
        assert not isinstance(recogniser, str)
        faces = [recogniser(picture) for picture in pixels(answers)]
        return identity.same_person(recogniser(ASTRONAUT.pixels()), faces, face_style)

    return unless(unjudged or (recogniser if isinstance(recogniser, str) else None), identity.TITLE, judge)
