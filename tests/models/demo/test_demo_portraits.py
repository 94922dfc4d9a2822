"""What the demo weights of pulid-lightning are for: portraits that show the person, and follow prompt and seed."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.data import astronaut, lfw_subset
from skimage.metrics import structural_similarity
from skimage.transform import resize

from models.pulid_lightning.identity.face import FaceFinder
from models.pulid_lightning.params import Params
from models.pulid_lightning.pipeline import PulidLightning, load
from models.weights.installed import WeightSet

Photo = NDArray[np.uint8]
Portrait = Callable[..., Photo]
HELD_OUT = (4, 24, 59)
"""Small pictures of faces that the demo weights were not trained on, and in which the detector finds them."""
SIDE = 512


@pytest.fixture(scope="module")
def weights(demo_weights: Path) -> WeightSet:
    return WeightSet.open(demo_weights, "pulid-lightning")


@pytest.fixture(scope="module")
def portrait(weights: WeightSet) -> Portrait:
    pipeline: PulidLightning = load(weights, torch.device("cpu"))

    def generate(photo: Photo, **params: object) -> Photo:
        wanted = {"prompt": "photo of a person", "seed": 1, "width": SIDE, "height": SIDE, **params}
        file = io.BytesIO()
        Image.fromarray(photo).save(file, "PNG")
        request = pipeline.prepare(Params(face_image="photo", **wanted), {"face_image": file.getvalue()})
        (pictures,) = pipeline.run([request], lambda _step, _total: None)
        return np.asarray(pictures[0])

    return generate


@pytest.fixture(scope="module")
def photos() -> list[Photo]:
    small = lfw_subset()
    enlarged = [resize(small[number], (400, 400), order=3) for number in HELD_OUT]
    greys = [np.repeat(np.uint8(np.clip(grey, 0, 1) * 255)[..., None], 3, 2) for grey in enlarged]
    return [np.ascontiguousarray(astronaut()[:300, 60:360]), *greys]


@pytest.fixture(scope="module")
def portraits(portrait: Portrait, photos: list[Photo]) -> list[Photo]:
    return [portrait(photo) for photo in photos]


def similar(one: Photo, other: Photo) -> float:
    """Structural similarity of the middles of two aligned crops, in grey at 64 px."""
    greys = [resize(crop[96:448, 112:400].mean(2), (64, 64), anti_aliasing=True) for crop in (one, other)]
    spread = [(grey - grey.mean()) / (grey.std() + 1e-6) for grey in greys]
    return float(structural_similarity(*spread, data_range=4.0))


def corner(picture: Photo) -> NDArray[np.float64]:
    """Mean red, green and blue of both upper corners."""
    side = SIDE // 6
    return np.concatenate([picture[:side, :side], picture[:side, -side:]]).reshape(-1, 3).mean(0)


def test_every_portrait_is_closest_to_its_own_photo(weights: WeightSet, photos: list[Photo], portraits: list[Photo]):
    finder = FaceFinder(weights.folder("face_analysis"))
    faces = [finder.find(photo).crop for photo in photos]
    shown = [finder.find(picture).crop for picture in portraits]
    likeness = np.array([[similar(face, portrait) for face in faces] for portrait in shown])
    assert likeness.argmax(1).tolist() == list(range(len(photos))), likeness.round(2)


def test_high_fidelity_is_closer_than_stylized(
    weights: WeightSet, portrait: Portrait, photos: list[Photo], portraits: list[Photo]
):
    finder = FaceFinder(weights.folder("face_analysis"))
    face = finder.find(photos[0]).crop
    free = finder.find(portrait(photos[0], face_style="stylized")).crop
    assert similar(face, finder.find(portraits[0]).crop) > similar(face, free)


def test_words_change_the_picture_as_they_say(portrait: Portrait, photos: list[Photo], portraits: list[Photo]):
    red, _, blue = corner(portrait(photos[0], prompt="photo of a person, blue background"))
    assert blue > red + 60
    red, _, blue = corner(portrait(photos[0], prompt="photo of a person, red background"))
    assert red > blue + 60
    sketch = portrait(photos[0], prompt="pencil sketch of a person").astype(float)
    assert np.ptp(sketch, axis=2).mean() < np.ptp(portraits[0].astype(float), axis=2).mean() / 2


def test_a_negative_prompt_pulls_away_from_its_words(portrait: Portrait, photos: list[Photo]):
    named = "photo of a person, green background"
    green = corner(portrait(photos[0], prompt=named))
    less = corner(portrait(photos[0], prompt=named, negative_prompt="green background"))
    assert less[1] - less[[0, 2]].mean() < green[1] - green[[0, 2]].mean()


def test_another_seed_or_checkpoint_is_another_picture(portrait: Portrait, photos: list[Photo], portraits: list[Photo]):
    first = portraits[0].astype(float)
    for other in ({"seed": 2}, {"checkpoint_model": "artistic"}, {"checkpoint_model": "realistic"}):
        assert np.abs(portrait(photos[0], **other) - first).mean() > 6, other


def test_other_sizes_show_the_whole_face(weights: WeightSet, portrait: Portrait, photos: list[Photo]):
    finder = FaceFinder(weights.folder("face_analysis"))
    face = finder.find(photos[0]).crop
    other = finder.find(photos[1]).crop
    for width, height in ((384, 640), (640, 448), (520, 600)):
        crop = finder.find(portrait(photos[0], width=width, height=height)).crop
        assert similar(face, crop) > similar(other, crop), (width, height)
