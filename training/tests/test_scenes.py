"""Training scenes: light falls from the side and in the colour that the prompt names."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from models.ic_light.conditioning import GREY
from models.ic_light.params import LightSource
from training.data.cutouts import cutouts
from training.data.lighting import shade_subject, shade_wall, soft_clip
from training.data.lighting_styles import APPENDED, NEUTRAL, TINTED, sample_prompt, sample_style
from training.data.photos import HELD_OUT, TRAINED_ON, load_photo
from training.data.scenes import sample_scene
from training.data.subjects import Subject, sample_subject

SIDES: tuple[LightSource, ...] = ("Left Light", "Right Light", "Top Light", "Bottom Light")
SIZE = (192, 256)


@pytest.fixture(scope="module")
def subjects() -> list[Subject]:
    rng = np.random.default_rng(1)
    return [sample_subject(rng, *SIZE) for _ in range(20)]


@pytest.fixture(scope="module")
def many() -> list[Subject]:
    rng = np.random.default_rng(2)
    return [sample_subject(rng, 192, 192) for _ in range(150)]


def from_left(values: np.ndarray, light: LightSource) -> np.ndarray:
    """Turn a picture so that what was towards the light is at the left."""
    along = values if light in ("Left Light", "Right Light") else values.swapaxes(0, 1)
    return along if light in ("Left Light", "Top Light") else along[:, ::-1]


def lit_to_dark(picture: np.ndarray, light: LightSource, weight: np.ndarray | None = None) -> float:
    """Brightness of the half towards the light by that of the other; halves of the weight, where there is one."""
    values = from_left(picture.mean(axis=-1) if picture.ndim == 3 else picture, light)
    weights = np.ones_like(values) if weight is None else from_left(weight, light) + 1e-6
    middle = int(np.searchsorted(np.cumsum(weights.sum(axis=0)), weights.sum() / 2))
    lit, dark = (np.average(values[:, half], weights=weights[:, half]) for half in (np.s_[:middle], np.s_[middle:]))
    return float(lit / dark)


@pytest.mark.parametrize(("width", "height"), [(192, 192), (192, 384), (320, 256)])
def test_a_scene_has_the_size_that_was_asked_for(width: int, height: int):
    rng = np.random.default_rng(3)
    subject = sample_subject(rng, width, height)
    scene = sample_scene(rng, subject, "Left Light")
    assert subject.alpha.shape == (height, width)
    assert subject.alpha.dtype == np.float32
    for picture in (subject.picture, scene.foreground, scene.background, scene.target):
        assert picture.shape == (height, width, 3)
        assert picture.dtype == np.uint8
    assert scene.light == "Left Light"


def test_the_same_seed_gives_the_same_scene_and_another_seed_another():
    def drawn(seed: int) -> tuple[bytes, bytes, str]:
        rng = np.random.default_rng(seed)
        scene = sample_scene(rng, sample_subject(rng, 192, 192), "Top Light")
        return scene.foreground.tobytes(), scene.target.tobytes(), scene.prompt

    assert drawn(4) == drawn(4)
    assert drawn(4)[1] != drawn(5)[1]


def test_subjects_cover_what_matting_finds(many: list[Subject]):
    areas = np.array([subject.alpha.mean() for subject in many])
    whole = areas == 1
    assert 0.02 < whole.mean() < 0.16
    assert areas[~whole].min() > 0.1
    assert areas[~whole].max() < 0.9
    assert all(subject.alpha.min() >= 0 and subject.alpha.max() <= 1 for subject in many)


def test_subjects_are_dark_bright_and_strongly_coloured(many: list[Subject]):
    means = np.array([subject.picture[subject.alpha > 0.5].mean(axis=0) for subject in many])
    brightness, spread = means.mean(axis=1), np.ptp(means, axis=1)
    assert (brightness < 70).mean() > 0.03
    assert (brightness > 170).mean() > 0.08
    assert (spread > 70).mean() > 0.15


def test_the_foreground_is_on_grey(subjects: list[Subject]):
    for subject in subjects:
        scene = sample_scene(np.random.default_rng(6), subject, "None")
        assert (scene.foreground[subject.alpha == 0] == GREY).all()
        assert np.array_equal(scene.foreground[subject.alpha == 1], subject.picture[subject.alpha == 1])
        assert np.array_equal(scene.target[subject.alpha == 0], scene.background[subject.alpha == 0])


@pytest.mark.parametrize("light", SIDES)
def test_the_side_towards_the_light_is_bright(light: LightSource, subjects: list[Subject]):
    rng = np.random.default_rng(7)
    scenes = [sample_scene(rng, subject, light, NEUTRAL) for subject in subjects]
    whole = [lit_to_dark(scene.target, light) for scene in scenes]
    albedo = [lit_to_dark(subject.picture, light, subject.alpha) for subject in subjects]
    inside = [
        lit_to_dark(scene.target, light, subject.alpha) / own
        for scene, subject, own in zip(scenes, subjects, albedo, strict=True)
    ]
    assert 2.7 < np.exp(np.log(whole).mean()) < 4.8
    assert np.exp(np.log(inside).mean()) > 2.0
    # Not the least: a black subject with a few bright spots shows no side.
    assert np.quantile(inside, 0.1) > 1.5
    assert 0.33 < np.mean([scene.target.mean() / 255 for scene in scenes]) < 0.48


@pytest.mark.parametrize("light", SIDES)
def test_light_on_a_subject_and_on_a_wall_is_of_the_stated_strength(light: LightSource, subjects: list[Subject]):
    inside = [
        shade_subject(subject.picture.astype(np.float32) / 255, subject.alpha, light)[subject.alpha > 0.9]
        for subject in subjects
    ]
    dark, bright = np.mean([np.percentile(factor, (5, 95)) for factor in inside], axis=0)
    assert 0.18 < dark < 0.3
    assert 1.2 < bright < 1.42
    wall = from_left(shade_wall(np.random.default_rng(8), *SIZE, light), light)
    assert 0.85 < wall[:, :8].mean() < 1.05
    assert 0.03 < wall[:, -8:].mean() < 0.12


def test_without_a_side_light_is_even(subjects: list[Subject]):
    scenes = [sample_scene(np.random.default_rng(9), subject, "None", NEUTRAL) for subject in subjects]
    for subject, scene in zip(subjects, scenes, strict=True):
        factor = shade_subject(subject.picture.astype(np.float32) / 255, subject.alpha, "None")
        assert 0.7 < factor.min() <= factor.max() < 1.1
        for light in ("Left Light", "Top Light"):
            assert 0.9 < lit_to_dark(scene.background, light) < 1.1


@pytest.mark.parametrize("light", get_args(LightSource))
def test_neutral_light_has_no_cast(light: LightSource, subjects: list[Subject]):
    for seed, subject in enumerate(subjects):
        scene = sample_scene(np.random.default_rng(seed), subject, light, NEUTRAL)
        mean = scene.background.reshape(-1, 3).mean(axis=0)
        assert np.ptp(mean) / mean.mean() < 0.03


REDS, GREENS, BLUES = ("warm", "sunset", "red", "gold"), ("forest", "green"), ("cold", "blue", "moonlight", "night")


@pytest.mark.parametrize(("names", "strongest"), [(REDS, 0), (GREENS, 1), (BLUES, 2)], ids=["reds", "greens", "blues"])
def test_a_style_shifts_colours_its_way(names: tuple[str, ...], strongest: int, subjects: list[Subject]):
    for name in names:
        moved, walls = [], []
        for subject in subjects:
            plain, tinted = (
                sample_scene(np.random.default_rng(10), subject, "Left Light", style)
                for style in (NEUTRAL, TINTED[name])
            )
            inside = subject.alpha > 0.9
            moved.append((tinted.target[inside].mean(axis=0) + 1) / (plain.target[inside].mean(axis=0) + 1))
            walls.append(tinted.background.reshape(-1, 3).mean(axis=0))
        assert np.mean(moved, axis=0).argmax() == strongest, name
        wall = np.mean(walls, axis=0)
        assert wall.argmax() == strongest, name
        assert wall.min() < 0.8 * wall.max(), name


@pytest.mark.parametrize("light", SIDES)
def test_neon_is_magenta_towards_the_light_and_blue_behind(light: LightSource):
    whole = Subject(np.zeros((192, 192, 3), np.uint8), np.zeros((192, 192), np.float32))
    background = from_left(sample_scene(np.random.default_rng(11), whole, light, TINTED["neon"]).background, light)
    near, far = background[:, :40].reshape(-1, 3).mean(axis=0), background[:, -40:].reshape(-1, 3).mean(axis=0)
    assert near[0] > 1.25 * near[1]
    assert near[2] > 1.25 * near[1]
    assert far[2] > far[1] > far[0]


def test_a_prompt_names_style_and_side():
    rng = np.random.default_rng(12)
    prompts = [sample_prompt(rng, TINTED["moonlight"], "Right Light") for _ in range(400)]
    assert all("moon" in prompt for prompt in prompts)
    sided = [prompt for prompt in prompts if "right" in prompt]
    assert 0.18 < len(sided) / len(prompts) < 0.32
    assert not any(side in prompt for prompt in prompts for side in ("left", "top", "bottom"))
    assert 0.8 < np.mean([prompt.endswith(f", {APPENDED}") for prompt in prompts]) < 0.9
    assert len(set(prompts)) > 100
    frontal = [sample_prompt(rng, TINTED["moonlight"], "None") for _ in range(100)]
    assert not any(side in prompt for prompt in frontal for side in ("left", "right", "top", "bottom"))


def test_a_neutral_prompt_names_no_colour_and_most_styles_are_neutral():
    rng = np.random.default_rng(13)
    drawn = Counter(sample_style(rng).words for _ in range(600))
    assert 0.66 < drawn[NEUTRAL.words] / 600 < 0.78
    assert len(drawn) == 1 + len(TINTED)
    assert not any(name in words for name in TINTED for words in NEUTRAL.words)


def test_clipping_keeps_hue_and_order():
    levels = np.array([[[0.2, 0.4, 0.6], [0.4, 0.8, 1.2], [0.8, 1.6, 2.4]]], np.float32)
    clipped = soft_clip(levels)[0]
    assert np.allclose(clipped[0], levels[0, 0])
    assert (np.diff(clipped, axis=0) > 0).all()
    assert clipped.max() <= 1
    assert (np.diff(clipped, axis=1) > 0).all()


def test_every_cutout_is_from_a_training_photo():
    assert cutouts().keys() <= set(TRAINED_ON)
    for cuts in cutouts().values():
        for cut in cuts:
            shown = np.asarray(cut.rgba)[..., 3] > 128
            assert 0.2 < shown.mean() < 0.95


def test_held_out_pictures_are_never_opened(monkeypatch: pytest.MonkeyPatch):
    opened = set()
    really_open = Image.open

    def note(file: Any) -> Image.Image:
        opened.add(Path(file if isinstance(file, Path) else file.name).stem)
        return really_open(file)

    monkeypatch.setattr(Image, "open", note)
    for kept in (load_photo, cutouts):
        kept.cache_clear()
    rng = np.random.default_rng(14)
    for _ in range(150):
        sample_subject(rng, 192, 192)
    assert opened.isdisjoint(HELD_OUT)
    # A picture drawn from noise alone opens nothing: the check must have something to see.
    assert len(opened & set(TRAINED_ON)) > 12
