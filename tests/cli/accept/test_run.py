"""A whole run on prepared images, as if a server with real weights had generated them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cli.accept import RequestFailed
from cli.accept.client import ImageRequest, ImageResponse
from cli.accept.photos import CUP, PHOTOS
from cli.accept.pulid_lightning import CHECKPOINTS
from cli.accept.result import CheckResult, Outcome, overall
from cli.accept.run import ALL_ANSWERED, ScenarioResult, run_scenarios
from cli.accept.scenario import FIRST_SEED, Scope, Sizes
from cli.accept.scenarios import MODELS as SCENARIOS
from cli.accept.scenarios import all_scenarios
from models.catalog import MODELS
from models.imaging.types import Rgb
from tests.cli.accept.pictures import fitted, noise, relit, response

READY = {slug: {"ready": True, "weights": "real", "detail": ""} for slug in MODELS}
# As small as checks can still log noise from a photo.
SMALL = {
    "pulid-lightning": Sizes({"width": 512, "height": 576}, {"width": 576, "height": 512}),
    "ic-light": Sizes({"width": 512, "highres_scale": 1}, {"width": 640, "height": 512, "highres_scale": 1}),
}
PERSON = np.eye(512, dtype=np.float32)[0]


def scopes(**changes: object) -> dict[str, Scope]:
    """The scope of every model, with `changes`."""
    return {
        slug: replace(
            Scope(1, SMALL[slug], PHOTOS, None, lambda picture: PERSON, MODELS[slug].params.variants), **changes
        )
        for slug in MODELS
    }


def good(request: ImageRequest) -> Rgb:
    """The photo, lit as asked; another seed gives it with permuted colours."""
    picture = fitted(request.photo, *request.output_size)
    if source := request.params.get("light_source"):
        picture = relit(picture, source)
    return np.roll(picture, request.params["seed"] - FIRST_SEED, axis=2)


def run(generate: Callable[[ImageRequest], Rgb], **changes: object) -> list[ScenarioResult]:
    scenarios = list(all_scenarios(scopes(**changes), READY))
    return list(run_scenarios(scenarios, lambda request: response(request, generate(request)), lambda _line: None))


def failures(found: list[ScenarioResult]) -> set[tuple[str, str]]:
    """(slug, title) of every result that has failed."""
    return {
        (one.scenario.slug, result.title) for one in found for result in one.results if result.outcome is Outcome.FAILED
    }


def outcomes(found: list[ScenarioResult], title: str) -> set[Outcome]:
    return {result.outcome for one in found for result in one.results if result.title == title}


def test_good_pictures_pass_everything():
    found = run(good)
    assert overall(result for one in found for result in one.results) is Outcome.PASSED
    asked = [request for one in found for request in one.scenario.requests]
    portraits = {
        (request.params["checkpoint_model"], request.params["face_style"])
        for request in asked
        if request.slug != "ic-light"
    }
    assert len(portraits) == 6
    assert {request.photo.name for request in asked if request.slug == "ic-light"} == {"astronaut", "chelsea", "coffee"}
    assert {(request.slug, request.version) for request in asked} == {
        (slug, way) for slug in MODELS for way in ("v1", "v2")
    }
    assert {(request.slug, request.params["output_format"]) for request in asked} >= {(slug, "jpg") for slug in MODELS}


SWAPPED = {
    "Left Light": "Right Light",
    "Right Light": "Left Light",
    "Top Light": "Bottom Light",
    "Bottom Light": "Top Light",
}
BOTH_LIGHTS = {("ic-light", "Left Light against Right Light"), ("ic-light", "Top Light against Bottom Light")}


def swap_lights(request: ImageRequest) -> Rgb:
    params = dict(request.params)
    if source := params.get("light_source"):
        params["light_source"] = SWAPPED[source]
    return good(replace(request, params=params))


def ignore_lights(request: ImageRequest) -> Rgb:
    return (
        good(replace(request, params={**request.params, "light_source": "Left Light"}))
        if request.slug == "ic-light"
        else good(request)
    )


def generate_another_subject(request: ImageRequest) -> Rgb:
    return good(replace(request, photo=CUP)) if request.photo.name == "chelsea" else good(request)


def ignore_seeds(request: ImageRequest) -> Rgb:
    return good(replace(request, params={**request.params, "seed": FIRST_SEED}))


def generate_noise(request: ImageRequest) -> Rgb:
    return noise(*request.output_size, grain=8, seed=request.params["seed"] % 1000)


def generate_squares(request: ImageRequest) -> Rgb:
    return fitted(request.photo, 640, 640) if request.params["output_format"] != "png" else good(request)


@pytest.mark.parametrize(
    ("generate", "expected"),
    [
        (swap_lights, BOTH_LIGHTS),
        pytest.param(ignore_lights, BOTH_LIGHTS, marks=pytest.mark.slow),
        (generate_another_subject, {("ic-light", "Subject kept")}),
        (ignore_seeds, {(slug, "Another seed, another picture") for slug in MODELS}),
        pytest.param(generate_squares, {(slug, "Size as requested") for slug in MODELS}, marks=pytest.mark.slow),
        (
            generate_noise,
            {(slug, "Image quality") for slug in MODELS} | BOTH_LIGHTS | {("ic-light", "Subject kept")},
        ),
    ],
)
def test_bad_pictures_fail_where_they_are_bad(generate: Callable[[ImageRequest], Rgb], expected: set[tuple[str, str]]):
    assert failures(run(generate)) == expected


def test_repeats_that_differ_fail():
    responses = iter(range(1000))

    def unsteady(request: ImageRequest) -> Rgb:
        picture = good(request).copy()
        picture[0, 0, 0] = next(responses) % 256
        return picture

    assert failures(run(unsteady)) == {
        (slug, title) for slug in MODELS for title in ("Same seed, same picture", "v1 and v2 agree")
    }


@pytest.mark.parametrize(
    ("recogniser", "outcome"),
    [
        (lambda picture: None, Outcome.FAILED),
        (lambda picture: PERSON if picture.shape == (512, 512, 3) else -PERSON, Outcome.FAILED),
        ("Cannot be checked here: run it on the worker's host.", Outcome.SKIPPED),
    ],
    ids=["no face", "another person", "no recogniser"],
)
def test_another_person_fails_and_a_missing_recogniser_skips(recogniser: object, outcome: Outcome):
    assert outcomes(run(good, recogniser=recogniser), "Same person") == {outcome}


def test_on_demo_weights_content_checks_are_skipped():
    found = run(generate_noise, skip_reason="demo")
    assert not failures(found)
    passed = {result.title for one in found for result in one.results if result.outcome is Outcome.PASSED}
    assert passed == {
        "Size as requested",
        "Format as requested",
        "Same seed, same picture",
        "Another seed, another picture",
        "v1 and v2 agree",
    }
    for title in ("Same person", "Image quality", "Subject kept", *(title for _, title in BOTH_LIGHTS)):
        assert outcomes(found, title) == {Outcome.SKIPPED}


def test_only_checkpoints_that_the_server_keeps_are_requested():
    scenarios = list(all_scenarios(scopes(variants=["realistic"]), {"pulid-lightning": READY["pulid-lightning"]}))
    assert {request.params["checkpoint_model"] for scenario in scenarios for request in scenario.requests} == {
        "realistic"
    }
    unasked = [scenario for scenario in scenarios if not scenario.requests]
    assert len(unasked) == 2 * (len(CHECKPOINTS) - 1)
    assert {check([]).outcome for scenario in unasked for check in scenario.checks} == {Outcome.SKIPPED}


def test_a_model_that_is_not_served_has_failed():
    health = {**READY, "ic-light": {"ready": False, "weights": None, "detail": "a file is missing"}}
    scenarios = [scenario for scenario in all_scenarios(scopes(), health) if scenario.slug == "ic-light"]
    (found,) = run_scenarios(scenarios, pytest.fail, lambda _line: None)
    (result,) = found.results
    assert result.outcome is Outcome.FAILED
    assert "a file is missing" in result.message


def test_a_failed_request_fails_its_scenario_and_no_other():
    def generate(request: ImageRequest) -> ImageResponse:
        if request.params.get("face_style") == "stylized":
            raise RequestFailed("The server answered 422: No face was found in face_image.")
        return response(request, good(request))

    lines: list[str] = []
    found = list(run_scenarios(list(all_scenarios(scopes(), READY)), generate, lines.append))
    assert failures(found) == {("pulid-lightning", ALL_ANSWERED)}
    refused = [one for one in found if one.scenario.title.endswith("stylized")]
    results: list[CheckResult] = [result for one in refused for result in one.results]
    assert len(results) == len(CHECKPOINTS)
    assert all("No face was found" in result.message for result in results)
    assert any("Same person (1.00, at least 0.40)" in line for line in lines)


@pytest.mark.parametrize("kind", ["full", "quick"])
def test_every_request_is_valid_and_its_size_known(kind: str):
    planned = {slug: replace(scope, sizes=getattr(SCENARIOS[slug], kind), seeds=2) for slug, scope in scopes().items()}
    for scenario in all_scenarios(planned, READY):
        for request in scenario.requests:
            params = MODELS[request.slug].params.model_validate(request.body)
            assert params.output_size == request.output_size
            assert set(request.params) <= set(MODELS[request.slug].params.model_fields)


def test_a_model_without_scenarios_is_skipped():
    (found,) = run_scenarios(list(all_scenarios({}, {"other": READY["ic-light"]})), pytest.fail, lambda _line: None)
    assert [result.outcome for result in found.results] == [Outcome.SKIPPED]
