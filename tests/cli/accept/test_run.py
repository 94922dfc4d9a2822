"""A whole run, judged on prepared pictures as if a server with real weights had drawn them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cli.accept import Refused
from cli.accept.client import Answer, Ask
from cli.accept.luma import Rgb
from cli.accept.photos import CUP, PHOTOS
from cli.accept.result import Outcome, Verdict, overall
from cli.accept.run import ANSWERED, Examined, examine_all
from cli.accept.scenario import CHECKPOINTS, FIRST_SEED, FULL, QUICK, Scope, Sizes
from cli.accept.scenarios import plan
from models.catalog import MODELS
from tests.cli.accept.pictures import answer, fitted, noise, relit

READY = {slug: {"ready": True, "weights": "real", "detail": ""} for slug in MODELS}
# As small as judges can still tell noise from a photo.
SMALL = {
    "pulid-lightning": Sizes({"width": 512, "height": 576}, {"width": 576, "height": 512}),
    "ic-light": Sizes({"width": 512, "highres_scale": 1}, {"width": 640, "height": 512, "highres_scale": 1}),
}
PERSON = np.eye(512, dtype=np.float32)[0]


def scope(**changes: object) -> Scope:
    usual = Scope(seeds=1, sizes=SMALL, photos=PHOTOS, unjudged={}, recogniser=lambda picture: PERSON)
    return replace(usual, **changes)


def good(ask: Ask) -> Rgb:
    """The photo, lit as asked; another seed draws it in slightly other colours."""
    picture = fitted(ask.photo, *ask.output_size)
    if source := ask.params.get("light_source"):
        picture = relit(picture, source)
    return np.roll(picture, ask.params["seed"] - FIRST_SEED, axis=2)


def examined(draw: Callable[[Ask], Rgb], **changes: object) -> list[Examined]:
    groups = list(plan(scope(**changes), READY))
    return list(examine_all(groups, lambda ask: answer(ask, draw(ask)), lambda _line: None))


def failures(found: list[Examined]) -> set[tuple[str, str]]:
    """(slug, title) of every verdict that has failed."""
    return {
        (one.group.slug, verdict.title)
        for one in found
        for verdict in one.verdicts
        if verdict.outcome is Outcome.FAILED
    }


def outcomes(found: list[Examined], title: str) -> set[Outcome]:
    return {verdict.outcome for one in found for verdict in one.verdicts if verdict.title == title}


def test_good_pictures_pass_everything():
    found = examined(good)
    assert overall(verdict for one in found for verdict in one.verdicts) is Outcome.PASSED
    asked = [ask for one in found for ask in one.group.asks]
    portraits = {(ask.params["checkpoint_model"], ask.params["face_style"]) for ask in asked if ask.slug != "ic-light"}
    assert len(portraits) == 6
    assert {ask.photo.name for ask in asked if ask.slug == "ic-light"} == {"astronaut", "chelsea", "coffee"}
    assert {(ask.slug, ask.version) for ask in asked} == {(slug, way) for slug in MODELS for way in ("v1", "v2")}
    assert {(ask.slug, ask.params["output_format"]) for ask in asked} >= {(slug, "jpg") for slug in MODELS}


SWAPPED = {
    "Left Light": "Right Light",
    "Right Light": "Left Light",
    "Top Light": "Bottom Light",
    "Bottom Light": "Top Light",
}
BOTH_LIGHTS = {("ic-light", "Left Light against Right Light"), ("ic-light", "Top Light against Bottom Light")}


def swap_lights(ask: Ask) -> Rgb:
    params = dict(ask.params)
    if source := params.get("light_source"):
        params["light_source"] = SWAPPED[source]
    return good(replace(ask, params=params))


def ignore_lights(ask: Ask) -> Rgb:
    return (
        good(replace(ask, params={**ask.params, "light_source": "Left Light"})) if ask.slug == "ic-light" else good(ask)
    )


def draw_another_subject(ask: Ask) -> Rgb:
    return good(replace(ask, photo=CUP)) if ask.photo.name == "chelsea" else good(ask)


def ignore_seeds(ask: Ask) -> Rgb:
    return good(replace(ask, params={**ask.params, "seed": FIRST_SEED}))


def precompute_noise(ask: Ask) -> Rgb:
    return noise(*ask.output_size, grain=8, seed=ask.params["seed"] % 1000)


def draw_squares(ask: Ask) -> Rgb:
    return fitted(ask.photo, 640, 640) if ask.params["output_format"] != "png" else good(ask)


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (swap_lights, BOTH_LIGHTS),
        (ignore_lights, BOTH_LIGHTS),
        (draw_another_subject, {("ic-light", "Subject kept")}),
        (ignore_seeds, {(slug, "Another seed, another picture") for slug in MODELS}),
        (draw_squares, {(slug, "Size as asked") for slug in MODELS}),
        (
            precompute_noise,
            {(slug, "A natural picture") for slug in MODELS} | BOTH_LIGHTS | {("ic-light", "Subject kept")},
        ),
    ],
)
def test_bad_pictures_fail_where_they_are_bad(draw: Callable[[Ask], Rgb], expected: set[tuple[str, str]]):
    assert failures(examined(draw)) == expected


def test_repeats_that_differ_fail():
    answers = iter(range(1000))

    def unsteady(ask: Ask) -> Rgb:
        picture = good(ask).copy()
        picture[0, 0, 0] = next(answers) % 256
        return picture

    assert failures(examined(unsteady)) == {
        (slug, title) for slug in MODELS for title in ("Same seed, same picture", "v1 and v2 agree")
    }


@pytest.mark.parametrize(
    ("recogniser", "outcome"),
    [
        (lambda picture: None, Outcome.FAILED),
        (lambda picture: PERSON if picture.shape == (512, 512, 3) else -PERSON, Outcome.FAILED),
        ("Cannot be judged here: run it on the worker's host.", Outcome.NOT_JUDGED),
    ],
    ids=["no face", "another person", "no recogniser"],
)
def test_strangers_fail_and_a_missing_recogniser_is_said(recogniser: object, outcome: Outcome):
    assert outcomes(examined(good, recogniser=recogniser), "Same person") == {outcome}


def test_on_demo_weights_only_what_needs_no_eyes_is_judged():
    found = examined(precompute_noise, unjudged=dict.fromkeys(MODELS, "demo"))
    assert not failures(found)
    judged = {verdict.title for one in found for verdict in one.verdicts if verdict.outcome is Outcome.PASSED}
    assert judged == {
        "Size as asked",
        "Format as asked",
        "Same seed, same picture",
        "Another seed, another picture",
        "v1 and v2 agree",
    }
    for title in ("Same person", "A natural picture", "Subject kept", *(title for _, title in BOTH_LIGHTS)):
        assert outcomes(found, title) == {Outcome.NOT_JUDGED}


def test_only_the_checkpoints_that_are_kept_are_asked():
    groups = list(plan(scope(checkpoints=["realistic"]), {"pulid-lightning": READY["pulid-lightning"]}))
    assert {ask.params["checkpoint_model"] for group in groups for ask in group.asks} == {"realistic"}
    unasked = [group for group in groups if not group.asks]
    assert len(unasked) == 2 * (len(CHECKPOINTS) - 1)
    assert {judge([]).outcome for group in unasked for judge in group.judges} == {Outcome.NOT_JUDGED}


def test_a_model_that_is_not_served_has_failed():
    health = {**READY, "ic-light": {"ready": False, "weights": None, "detail": "a file is missing"}}
    groups = [group for group in plan(scope(), health) if group.slug == "ic-light"]
    (found,) = examine_all(groups, pytest.fail, lambda _line: None)
    (verdict,) = found.verdicts
    assert verdict.outcome is Outcome.FAILED
    assert "a file is missing" in verdict.sentence


def test_a_refused_request_fails_its_group_and_no_other():
    def draw(ask: Ask) -> Answer:
        if ask.params.get("face_style") == "stylized":
            raise Refused("The server answered 422: No face was found in face_image.")
        return answer(ask, good(ask))

    lines: list[str] = []
    found = list(examine_all(list(plan(scope(), READY)), draw, lines.append))
    assert failures(found) == {("pulid-lightning", ANSWERED)}
    refused = [one for one in found if one.group.title.endswith("stylized")]
    verdicts: list[Verdict] = [verdict for one in refused for verdict in one.verdicts]
    assert len(verdicts) == len(CHECKPOINTS)
    assert all("No face was found" in verdict.sentence for verdict in verdicts)
    assert any("Same person (1.00, at least 0.40)" in line for line in lines)


@pytest.mark.parametrize("sizes", [FULL, QUICK])
def test_every_request_is_valid_and_its_size_known(sizes: dict[str, Sizes]):
    for group in plan(scope(sizes=sizes, seeds=2), READY):
        for ask in group.asks:
            params = MODELS[ask.slug].params.model_validate(ask.body)
            assert params.output_size == ask.output_size
            assert set(ask.params) <= set(MODELS[ask.slug].params.model_fields)
