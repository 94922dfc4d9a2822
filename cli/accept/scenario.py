"""Requests that are judged together, and how much is asked at all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from cli.accept.checks import files
from cli.accept.client import Answer, Ask
from cli.accept.local_weights import Recogniser
from cli.accept.luma import Rgb
from cli.accept.photos import Photo
from cli.accept.result import Verdict, not_judged

Judge = Callable[[Sequence[Answer]], Verdict]
"""Looks at all answers of a group, in the order of its requests."""
CHECKPOINTS: Final = ("default", "artistic", "realistic")
FIRST_SEED: Final = 412431


@dataclass(frozen=True)
class Group:
    """Some requests of one model, and who judges their answers."""

    slug: str
    title: str
    asks: tuple[Ask, ...]
    judges: tuple[Judge, ...]


@dataclass(frozen=True)
class Sizes:
    """Parameters that make pictures of the usual size, and of another shape."""

    usual: Mapping[str, Any]
    other: Mapping[str, Any]


FULL: Final[Mapping[str, Sizes]] = {
    "pulid-lightning": Sizes({}, {"width": 832, "height": 1216}),
    "ic-light": Sizes({}, {"width": 640, "height": 512}),
}
"""The sizes that the models were made for."""
_FAST: Final = {"steps": 2, "highres_scale": 1}
QUICK: Final[Mapping[str, Sizes]] = {
    "pulid-lightning": Sizes({"width": 256, "height": 256}, {"width": 320, "height": 256}),
    "ic-light": Sizes({"width": 256, "height": 320, **_FAST}, {"width": 320, "height": 256, **_FAST}),
}
"""Sizes that only show that everything answers: neither model draws well at them."""


@dataclass(frozen=True)
class Scope:
    """How much is asked, and what can be judged.

    `sizes` go by slug; `photos` are relit. `unjudged` says by slug why the pictures' content cannot be judged; a slug
    is absent if it can. `recogniser` is a sentence where there is none. `checkpoints` are those that the server keeps.
    """

    seeds: int
    sizes: Mapping[str, Sizes]
    photos: Sequence[Photo]
    unjudged: Mapping[str, str]
    recogniser: Recogniser | str
    checkpoints: Collection[str] = CHECKPOINTS


def changed(ask: Ask, caption: str, **params: Any) -> Ask:
    """The same request with other parameters."""
    return replace(ask, params={**ask.params, **params}, caption=caption)


def seeds(ask: Ask, count: int) -> list[Ask]:
    """The same request with `count` seeds."""
    numbers = range(FIRST_SEED, FIRST_SEED + count)
    return [changed(ask, ", ".join(filter(None, (ask.caption, f"seed {seed}"))), seed=seed) for seed in numbers]


def unless(reason: str | None, title: str, judge: Judge) -> Judge:
    """`judge`, or one that says why it cannot judge."""
    return judge if reason is None else lambda _answers: not_judged(title, reason)


def right_sizes(answers: Sequence[Answer]) -> Verdict:
    """The judge of sizes; all requests of its group ask for the same."""
    return files.right_size([answer.size for answer in answers], answers[0].ask.output_size)


def pixels(answers: Sequence[Answer]) -> list[Rgb]:
    """The pictures of all answers."""
    return [answer.pixels for answer in answers]
