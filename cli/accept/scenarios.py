"""All scenarios of a run, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from cli.accept import ic_light, pulid_lightning
from cli.accept.checks import files, repeats
from cli.accept.client import ImageRequest, ImageResponse
from cli.accept.result import CheckResult, passed_if
from cli.accept.scenario import FIRST_SEED, Check, ModelScenarios, Scenario, Scope, changed, right_sizes, skip_if
from models.imaging.decode import MEDIA_TYPES

MODELS: Final[Mapping[str, ModelScenarios]] = {
    pulid_lightning.SLUG: pulid_lightning.SCENARIOS,
    ic_light.SLUG: ic_light.SCENARIOS,
}
"""The models that have scenarios, by slug."""


def all_scenarios(scopes: Mapping[str, Scope], health: Mapping[str, Mapping[str, Any]]) -> Iterator[Scenario]:
    """Scenarios of the models in `health`, which is what `/health/ready` reports of each; `scopes` go by slug."""
    for slug, model in health.items():
        if not model["ready"]:
            yield _not_served(slug, model["detail"])
        elif slug not in MODELS:
            yield Scenario(slug, "No request", (), (skip_if("There are no scenarios for it.", slug, right_sizes),))
        else:
            scope, scenarios = scopes[slug], MODELS[slug]
            yield from scenarios.content(scope)
            yield _repeats(scenarios.base(scope))
            yield _formats(scenarios.base(scope), scope.sizes.other)


def _not_served(slug: str, detail: str) -> Scenario:
    return Scenario(slug, "No request", (), (lambda _responses: passed_if("Served", False, f"{slug}: {detail}."),))


def _repeats(base: ImageRequest) -> Scenario:
    requests = (
        changed(base, "one request"),
        changed(base, "the same again"),
        changed(base, "another seed", seed=FIRST_SEED + 1),
        replace(base, caption="the first, through v1", version="v1"),
    )
    checks: tuple[Check, ...] = (
        lambda responses: repeats.same(responses[0].pixels, responses[1].pixels),
        lambda responses: repeats.different(responses[0].pixels, responses[2].pixels),
        lambda responses: repeats.agree(
            responses[0].pixels, responses[3].pixels, (responses[0].seed, responses[3].seed)
        ),
    )
    return Scenario(base.slug, "The same request again, another seed, the other API version", requests, checks)


def _formats(base: ImageRequest, size: Mapping[str, Any]) -> Scenario:
    requests = tuple(changed(base, name, output_format=name, **size) for name in MEDIA_TYPES)
    checks = tuple(_format(index) for index in range(len(requests)))
    return Scenario(base.slug, "Every format, at another aspect ratio", requests, (*checks, right_sizes))


def _format(index: int) -> Check:
    def check(responses: Sequence[ImageResponse]) -> CheckResult:
        response = responses[index]
        return files.right_format(response.data, response.media_type, response.request.params["output_format"])

    return check
