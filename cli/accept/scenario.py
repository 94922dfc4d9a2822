"""A scenario: requests whose responses are checked together; and the scope of a run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from cli.accept.checks import files
from cli.accept.client import ImageRequest, ImageResponse
from cli.accept.local_weights import Recogniser
from cli.accept.photos import Photo
from cli.accept.result import CheckResult, skipped
from models.imaging.types import Rgb

Check = Callable[[Sequence[ImageResponse]], CheckResult]
"""Checks the responses of a scenario, in the order of its requests."""
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


@dataclass(frozen=True)
class Scope:
    """How much is requested of one model, and what can be checked.

    `skip_reason` says why the content of its images cannot be checked, if so. `recogniser` is a message where there is
    none. `variants` are those that the server reports.
    """

    seeds: int
    sizes: Sizes
    photos: Sequence[Photo]
    skip_reason: str | None
    recogniser: Recogniser | str
    variants: Collection[str]


@dataclass(frozen=True)
class ModelScenarios:
    """How one model is tested.

    `content` are the scenarios of what the model is for; `base` is the request that is repeated and encoded in every
    format. `full` are the sizes that the model was trained for, `quick` sizes that only show that it is served.
    """

    content: Callable[[Scope], Iterator[Scenario]]
    base: Callable[[Scope], ImageRequest]
    full: Sizes
    quick: Sizes


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
