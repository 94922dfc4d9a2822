"""Relighting through a live server: sides of the light, numbers and sizes, on photos of a cat and of a cup."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import pytest
from skimage import data

from cli.accept.checks import light
from cli.accept.result import Outcome
from tests.contract.pictures import distance, images_of, pixels, post, size
from tests.live_server import LiveServer, png

PHOTOS = {"cat": png(data.chelsea()), "cup": png(data.coffee())}
LIGHT_SOURCES = ("Left Light", "Right Light", "Top Light", "Bottom Light")
SEEDS = (42, 43, 44)
QUICK = {"seed": 42, "width": 256, "height": 256, "steps": 2, "highres_scale": 1, "output_format": "png"}


@pytest.fixture(scope="module")
def ask(live: LiveServer) -> Callable[..., list[bytes]]:
    """The pictures of a quick request, with other parameters."""

    def send(subject: str, **changes: object) -> list[bytes]:
        params = QUICK | {"prompt": f"{subject}, photoshoot"} | changes
        return images_of(post(live, "ic-light", {"subject_image": PHOTOS[subject]}, **params))

    return send


EITHER_PHOTO = ["cat", pytest.param("cup", marks=pytest.mark.slow)]


@pytest.mark.parametrize(
    "opposites",
    [light.HORIZONTAL, pytest.param(light.VERTICAL, marks=pytest.mark.slow)],
    ids=lambda opposites: opposites.title,
)
@pytest.mark.parametrize("subject", EITHER_PHOTO)
def test_the_light_comes_from_the_requested_side(ask, subject: str, opposites: light.Opposites):
    near, far = (
        [pixels(ask(subject, light_source=source, seed=seed)[0]) for seed in SEEDS]
        for source in (opposites.near, opposites.far)
    )
    assert light.lit_from(opposites, near, far).outcome is Outcome.PASSED
    assert light.lit_from(opposites, far, near).outcome is Outcome.FAILED, "swapped sides are noticed"


@pytest.mark.parametrize("subject", EITHER_PHOTO)
def test_without_a_light_source_the_image_is_another(ask, subject: str):
    plain = ask(subject, light_source="None")[0]
    assert size(plain) == (256, 256)
    assert all(distance(plain, ask(subject, light_source=source)[0]) > 1 for source in LIGHT_SOURCES)


@pytest.mark.slow
def test_subjects_give_different_pictures(ask):
    assert distance(ask("cat")[0], ask("cup", prompt="cat, photoshoot")[0]) > 1


@pytest.mark.parametrize("light_source", [pytest.param("None", marks=pytest.mark.slow), "Top Light"])
@pytest.mark.parametrize("number", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_the_same_seed_repeats_byte_for_byte(ask, number: int, light_source: str):
    asked = {"number_of_images": number, "light_source": light_source}
    pictures = ask("cup", **asked)
    assert len(set(pictures)) == number
    assert ask("cup", **asked) == pictures
    assert not set(ask("cup", seed=43, **asked)) & set(pictures)


@pytest.mark.parametrize(
    ("subject", "scale", "width", "height", "expected"),
    [
        ("cat", 1, 320, 256, (320, 256)),
        ("cup", 1.5, 320, 448, (512, 640)),
        pytest.param("cat", 1.5, 256, 320, (384, 512), marks=pytest.mark.slow),
        pytest.param("cup", 2, 256, 320, (512, 640), marks=pytest.mark.slow),
    ],
    ids=["as it is", "ties to even, up and down", "sides on their own", "double"],
)
def test_sizes_round_to_tiles_of_64(ask, subject: str, scale: float, width: int, height: int, expected):
    (picture,) = ask(subject, highres_scale=scale, width=width, height=height)
    assert size(picture) == expected


@pytest.mark.slow
def test_several_large_pictures_have_one_size(ask):
    pictures = ask("cat", number_of_images=3, highres_scale=1.5, light_source="Left Light")
    assert [size(picture) for picture in pictures] == [(384, 384)] * 3
    assert all(distance(first, second) > 1 for first, second in combinations(pictures, 2))
