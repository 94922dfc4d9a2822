"""A scenario: requests whose responses are checked together; and the scope of a run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from cli.accept.checks import files
from cli.accept.client import ImageRequest, ImageResponse
from cli.accept.local_weights import Recogniser
from cli.accept.luma import Rgb
from cli.accept.photos import Photo
from cli.accept.result import CheckResult, skipped

Check = Callable[[Sequence[ImageResponse]], CheckResult]
"""Checks the responses of a scenario, in the order of its requests."""
CHECKPOINTS: Final = ("default", "artistic", "realistic")
FIRST_SEED: Final = 412431


@dataclass(frozen=True)
class Scenario:
    """Requests to one model, and the checks of their responses."""

    slug: str
    title: str
    requests: tuple[ImageRequest, ...]
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Sizes:
    """Parameters for images of the usual size, and of another aspect ratio."""

    usual: Mapping[str, Any]
    other: Mapping[str, Any]


FULL: Final[Mapping[str, Sizes]] = {
    "pulid-lightning": Sizes({}, {"width": 832, "height": 1216}),
    "ic-light": Sizes({}, {"width": 640, "height": 512}),
}
"""The sizes that the models were trained for."""
_FAST: Final = {"steps": 2, "highres_scale": 1}
QUICK: Final[Mapping[str, Sizes]] = {
    "pulid-lightning": Sizes({"width": 256, "height": 256}, {"width": 320, "height": 256}),
    "ic-light": Sizes({"width": 256, "height": 320, **_FAST}, {"width": 320, "height": 256, **_FAST}),
}
"""Sizes that only show that everything is served: neither model generates well at them."""


@dataclass(frozen=True)
class Scope:
    """How much is requested, and what can be checked.

    `sizes` and `skip_reasons` go by slug; the latter says why the content of a model's images cannot be checked.
    `recogniser` is a message where there is none. `checkpoints` are those that the server keeps.
    """

    seeds: int
    sizes: Mapping[str, Sizes]
    photos: Sequence[Photo]
    skip_reasons: Mapping[str, str]
    recogniser: Recogniser | str
    checkpoints: Collection[str] = CHECKPOINTS


def changed(request: ImageRequest, caption: str, **params: Any) -> ImageRequest:
    """The same request with other parameters."""
    return replace(request, params={**request.params, **params}, caption=caption)


def seeds(request: ImageRequest, count: int) -> list[ImageRequest]:
    """The same request with `count` seeds."""
    numbers = range(FIRST_SEED, FIRST_SEED + count)
    return [changed(request, ", ".join(filter(None, (request.caption, f"seed {seed}"))), seed=seed) for seed in numbers]


def skip_if(reason: str | None, title: str, check: Check) -> Check:
    """`check`, or one that is skipped for `reason`."""
    return check if reason is None else lambda _responses: skipped(title, reason)


def right_sizes(responses: Sequence[ImageResponse]) -> CheckResult:
    """Check sizes; all requests of the scenario ask for the same one."""
    return files.right_size([response.size for response in responses], responses[0].request.output_size)


def pixels(responses: Sequence[ImageResponse]) -> list[Rgb]:
    """The images of all responses."""
    return [response.pixels for response in responses]
