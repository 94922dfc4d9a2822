"""Whole requests through `prepare`, `run` and `finish`."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.errors import InputRefused, UnreadableImage
from models.ic_light import sampling
from models.ic_light.networks import Networks
from models.ic_light.params import Params
from models.ic_light.pipeline import IcLight, Prepared
from models.imaging.decode import MEDIA_TYPES

QUICK = {"prompt": "a cat, warm light", "width": 256, "height": 256, "steps": 2, "highres_scale": 1, "seed": 7}


def draw(model: IcLight, picture: bytes, **changes: Any) -> np.ndarray:
    background = changes.pop("background", None)
    images = {"subject_image": picture} | ({} if background is None else {"background_image": background})
    params = Params(**{name: "file" for name in images}, **(QUICK | changes))
    return model.run([model.prepare(params, images)], lambda step, total: None)[0]


@pytest.fixture(scope="module")
def plain(model: IcLight, astronaut: bytes) -> np.ndarray:
    return draw(model, astronaut)


def test_pictures_have_the_size_of_the_second_pass_and_something_to_see(model: IcLight, astronaut: bytes):
    # 320 * 1.5 = 7.5 tiles, which round to 8; 256 * 1.5 = 6 tiles.
    pixels = draw(model, astronaut, width=320, highres_scale=1.5, number_of_images=2)
    assert pixels.shape == (2, 384, 512, 3)
    assert pixels.dtype == np.uint8
    assert all(picture.std() > 10 and 20 < picture.mean() < 235 for picture in pixels)
    assert not np.array_equal(pixels[0], pixels[1])


def test_both_passes_use_the_texts_that_were_projected_once(
    model: IcLight, astronaut: bytes, monkeypatch: pytest.MonkeyPatch
):
    projected, project = [], sampling.text_contexts
    monkeypatch.setattr(sampling, "text_contexts", lambda unet, text: projected.append(unet) or project(unet, text))
    for calls in (1, 2):  # the next run has texts of its own
        draw(model, astronaut)
        assert len(projected) == calls


def test_the_same_request_gives_the_same_pixels(model: IcLight, astronaut: bytes, plain: np.ndarray):
    assert np.array_equal(draw(model, astronaut), plain)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 8},
        {"prompt": "a cat, blue light"},
        pytest.param({"appended_prompt": "blue light"}, marks=pytest.mark.slow),
        {"negative_prompt": "warm light"},
        pytest.param({"cfg": 1}, marks=pytest.mark.slow),
        pytest.param({"cfg": 7.5}, marks=pytest.mark.slow),
        {"light_source": "Left Light"},
        {"highres_denoise": 0.9},
        pytest.param({"steps": 3}, marks=pytest.mark.slow),
        pytest.param({"highres_scale": 1.25}, marks=pytest.mark.slow),
        pytest.param({"prompt": "a cat in a city " * 60}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_every_parameter_counts(model: IcLight, astronaut: bytes, plain: np.ndarray, changes: dict[str, Any]):
    pixels = draw(model, astronaut, **changes)
    assert pixels.shape != plain.shape or np.abs(pixels.astype(int) - plain).mean() > 1


def test_the_subject_counts(model: IcLight, coffee: bytes, plain: np.ndarray):
    assert np.abs(draw(model, coffee).astype(int) - plain).mean() > 1


@pytest.mark.slow
def test_the_lights_direction_and_strength_count(model: IcLight, astronaut: bytes):
    left, right, weak = (
        draw(model, astronaut, light_source=source, lowres_denoise=denoise)
        for source, denoise in (("Left Light", 0.5), ("Right Light", 0.5), ("Left Light", 0.9))
    )
    assert np.abs(left.astype(int) - right).mean() > 1
    assert np.abs(left.astype(int) - weak).mean() > 1


def test_lowres_denoise_has_no_effect_without_a_light_source(model: IcLight, astronaut: bytes, plain: np.ndarray):
    assert np.array_equal(draw(model, astronaut, lowres_denoise=0.2), plain)


@pytest.mark.slow
def test_without_guidance_the_negative_prompt_is_ignored(model: IcLight, astronaut: bytes):
    assert np.array_equal(draw(model, astronaut, cfg=1, negative_prompt="x"), draw(model, astronaut, cfg=1))


@pytest.mark.parametrize(
    ("changes", "total"),
    [
        pytest.param({"steps": 3}, 6, marks=pytest.mark.slow),
        ({"steps": 4, "light_source": "Top Light", "lowres_denoise": 0.3}, 7),
        pytest.param({"steps": 1, "light_source": "Top Light", "highres_denoise": 0.9}, 2, marks=pytest.mark.slow),
    ],
)
def test_progress_counts_the_steps_of_both_passes(model: IcLight, astronaut: bytes, changes, total):
    params = Params(subject_image="subject", **(QUICK | changes))
    seen: list[tuple[int, int]] = []
    model.run([model.prepare(params, {"subject_image": astronaut})], lambda *progress: seen.append(progress))
    assert seen == [(step, total) for step in range(1, total + 1)]


@pytest.mark.parametrize("last", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_call_stopped_in_either_pass_leaves_no_trace(model: IcLight, astronaut: bytes, plain: np.ndarray, last: int):
    class Stop(Exception):
        pass

    def stop(step: int, total: int) -> None:
        if step == last:
            raise Stop

    prepared = model.prepare(Params(subject_image="subject", **QUICK), {"subject_image": astronaut})
    with pytest.raises(Stop):
        model.run([prepared], stop)
    assert np.array_equal(draw(model, astronaut), plain)


@pytest.fixture(scope="module")
def before_coffee(model: IcLight, astronaut: bytes, coffee: bytes) -> np.ndarray:
    return draw(model, astronaut, background=coffee)


def test_a_background_counts(model: IcLight, astronaut: bytes, plain: np.ndarray, before_coffee: np.ndarray):
    before_itself = draw(model, astronaut, background=astronaut)
    assert np.abs(before_coffee.astype(int) - plain).mean() > 1
    assert np.abs(before_coffee.astype(int) - before_itself).mean() > 1


def test_before_a_background_the_light_source_has_no_effect(
    model: IcLight, astronaut: bytes, coffee: bytes, before_coffee: np.ndarray
):
    lit = draw(model, astronaut, background=coffee, light_source="Left Light", lowres_denoise=0.3)
    assert np.array_equal(lit, before_coffee)


@pytest.mark.slow
def test_a_background_fits_both_passes_whatever_its_shape(model: IcLight, astronaut: bytes, coffee: bytes):
    pixels = draw(model, astronaut, background=coffee, highres_scale=1.5, number_of_images=2)
    assert pixels.shape == (2, 384, 384, 3)


def test_without_its_weights_a_background_is_refused(networks: Networks, astronaut: bytes, coffee: bytes):
    without = IcLight(replace(networks, background_unet=None))
    assert (IcLight(networks).variants, without.variants) == (("foreground", "background"), ("foreground",))
    with pytest.raises(InputRefused, match="background_image"):
        draw(without, astronaut, background=coffee)


def test_a_background_that_is_no_picture_is_refused(model: IcLight, astronaut: bytes):
    with pytest.raises(UnreadableImage):
        draw(model, astronaut, background=b"not a picture")


def test_hidden_pixels_do_not_count(model: IcLight):
    def half_hidden(colour: int) -> bytes:
        pixels = np.full((64, 64, 4), 200, dtype=np.uint8)
        pixels[:, :32] = (colour, colour, colour, 0)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    assert np.array_equal(draw(model, half_hidden(0)), draw(model, half_hidden(255)))


def test_a_very_long_and_narrow_subject_is_served(model: IcLight):
    file = io.BytesIO()
    Image.new("RGB", (20_000, 32), "red").save(file, "PNG")
    assert draw(model, file.getvalue(), steps=1).shape == (1, 256, 256, 3)


def test_what_is_no_picture_is_refused(model: IcLight):
    with pytest.raises(UnreadableImage):
        draw(model, b"not a picture")


@pytest.mark.parametrize("output_format", MEDIA_TYPES)
def test_pictures_are_encoded_as_asked_for(model: IcLight, plain: np.ndarray, output_format: str):
    params = Params(subject_image="subject", prompt="", output_format=output_format)
    (encoded,) = model.finish(params, plain)
    picture = Image.open(io.BytesIO(encoded))
    assert (picture.get_format_mimetype(), picture.size) == (MEDIA_TYPES[output_format], (256, 256))


def test_requests_drawn_together_get_the_pictures_that_they_get_alone(model: IcLight, astronaut: bytes, coffee: bytes):
    requests = [
        (astronaut, {}),
        (coffee, {"seed": 8, "prompt": "a cup", "number_of_images": 2}),
        (coffee, {"seed": 9, "negative_prompt": "rain"}),
    ]
    batch = [prepare(model, picture, light_source="Left Light", **changes) for picture, changes in requests]
    assert len({model.batch_key(prepared) for prepared in batch}) == 1
    steps: list[tuple[int, int]] = []
    together = model.run(batch, lambda *step: steps.append(step))
    assert steps == [(step, 3) for step in range(1, 4)]
    alone = [model.run([prepared], lambda step, total: None)[0] for prepared in batch]
    assert [len(pictures) for pictures in together] == [1, 2, 1]
    for one, other in zip(together, alone, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 2


@pytest.mark.parametrize(
    "change",
    [
        {"width": 320},
        {"highres_scale": 1.5},
        {"steps": 3},
        {"highres_denoise": 0.4},
        {"light_source": "Top Light"},
        {"cfg": 3},
        {"prompt": "cat " * 80},
    ],
)
def test_requests_that_take_another_way_are_drawn_apart(model: IcLight, astronaut: bytes, change: dict[str, Any]):
    plain, other = (prepare(model, astronaut, **changes) for changes in ({}, change))
    assert model.batch_key(plain) != model.batch_key(other)
    if "prompt" not in change:  # how many tokens it has is not known when it is queued
        assert plain.params.batch_hint != other.params.batch_hint


def prepare(model: IcLight, picture: bytes, **changes: Any) -> Prepared:
    params = Params(subject_image="file", **(QUICK | changes))
    return model.prepare(params, {"subject_image": picture})
