"""Finding the largest face and cutting it out."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from skimage import data

from models.errors import NoFaceFound, NonFiniteResult, WeightsError
from models.pulid_lightning.identity.face import (
    DETECTION_SIZES,
    TEMPLATE,
    FaceFinder,
    align,
    alignment,
    detection_sizes,
    largest,
)
from models.weights.folder import Folder
from models.weights.installed import WeightSet

# Pupils, tip of the nose and corners of the mouth in the photo: (x, y) in px, read off by eye.
FEATURES = ((203, 101), (246, 103), (222, 129), (204, 141), (242, 142))


@pytest.fixture(scope="module")
def finder(weights: WeightSet) -> FaceFinder:
    return FaceFinder(weights.folder("face_analysis"))


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def test_the_face_is_cut_out_upright_and_in_place(finder: FaceFinder, portrait: np.ndarray):
    crop = finder.find(portrait).crop
    by_hand = align(portrait, np.array(FEATURES, dtype=np.float64))
    assert crop.shape == (512, 512, 3)
    assert crop.dtype == np.uint8
    assert likeness(crop[128:448, 128:384], by_hand[128:448, 128:384]) > 0.8


def test_the_embedding_is_raw(finder: FaceFinder, portrait: np.ndarray):
    embedding = finder.find(portrait).embedding
    assert embedding.shape == (512,)
    assert embedding.dtype == np.float32
    assert 2 < np.linalg.norm(embedding) < 6


def test_the_same_picture_gives_the_same_result(finder: FaceFinder, portrait: np.ndarray):
    first, second = finder.find(portrait), finder.find(portrait)
    assert np.array_equal(first.crop, second.crop)
    assert np.array_equal(first.embedding, second.embedding)


@pytest.mark.slow
def test_scale_hardly_changes_the_embedding(finder: FaceFinder, portrait: np.ndarray):
    scaled = finder.find(cv2.resize(portrait, (800, 800))).embedding
    mirrored = finder.find(portrait[:, ::-1]).embedding
    assert likeness(finder.find(portrait).embedding, scaled) > 0.9
    assert likeness(finder.find(portrait).embedding, mirrored) < 0.9


@pytest.mark.parametrize(
    "name", ["coffee", *(pytest.param(name, marks=pytest.mark.slow) for name in ("chelsea", "rocket"))]
)
def test_pictures_without_a_face_are_refused(finder: FaceFinder, name: str):
    with pytest.raises(NoFaceFound, match="No face was found in face_image"):
        finder.find(getattr(data, name)())


@pytest.mark.parametrize(
    "picture",
    [np.full((300, 400, 3), 128, np.uint8), pytest.param(noise(), marks=pytest.mark.slow)],
    ids=["flat", "noise"],
)
def test_pictures_of_nothing_are_refused(finder: FaceFinder, picture: np.ndarray):
    with pytest.raises(NoFaceFound):
        finder.find(picture)


@pytest.mark.parametrize("turned", [False, True], ids=["wide", "tall"])
@pytest.mark.parametrize(
    "sides", [(16, 5121), (32, 2561), (32, 10_240), (32, 10_272), (33, 21_121), (40, 300_000), (100, 8001)]
)
def test_strips_show_no_face(finder: FaceFinder, sides: tuple[int, int], turned: bool):
    """Up to the longest that a picture of 25 megapixels may be: at some the detector fails at some of its sizes."""
    strip = np.random.default_rng(0).integers(0, 256, (*sides, 3), dtype=np.uint8)
    with pytest.raises(NoFaceFound, match="No face was found in face_image"):
        finder.find(np.ascontiguousarray(strip.swapaxes(0, 1)) if turned else strip)


def test_every_size_is_tried_unless_the_detector_would_see_a_line():
    """What the detector makes of a picture fits its square, and is no line, at any aspect."""
    for short in (16, 32, 33, 320, 321, 1000, 5000):
        for aspect in (1, 1.0001, 4 / 3, 1.9, 39.9, 40, 41, 79, 80, 81, 319, 320, 321, 640, 641, 20_000):
            long = round(short * aspect)
            sizes = detection_sizes(short, long)
            assert sizes == detection_sizes(long, short)
            assert all(8 <= int(size * (short / long)) <= size for size in sizes)
            if long <= 40 * short:
                assert sizes == list(DETECTION_SIZES)


def test_the_largest_of_several_faces_counts(finder: FaceFinder, portrait: np.ndarray):
    head = portrait[10:250, 110:330]
    group = np.full((600, 1000, 3), 128, np.uint8)
    group[50:290, 40:260] = head[:, ::-1]
    group[100:500, 300:660] = cv2.resize(head, (360, 400))
    group[250:490, 720:940] = head[:, ::-1]
    found, alone = finder.find(group), finder.find(cv2.resize(head, (360, 400)))
    assert likeness(found.embedding, alone.embedding) > 0.9


def test_largest_is_by_area():
    boxes = np.array([(0, 0, 10, 100, 0.99), (0, 0, 40, 40, 0.5), (5, 5, 20, 20, 0.9)])
    assert largest(boxes) == 1


def test_alignment_moves_the_eyes_to_the_template():
    eyes = np.array([(192.98138, 239.94708), (318.90277, 240.1936)])
    keypoints = np.array([*eyes, (256.63416, 314.01935), (201.26117, 371.41043), (313.08905, 371.15118)]) / 2 + 30
    matrix = alignment(keypoints)
    assert np.allclose(keypoints[:2] @ matrix[:, :2].T + matrix[:, 2], eyes, atol=1e-3)


def test_outside_of_the_picture_is_grey():
    keypoints = np.array([(10, 10), (20, 10), (15, 15), (11, 20), (19, 20)], dtype=np.float64)
    assert tuple(align(np.zeros((24, 24, 3), np.uint8), keypoints)[0, 0]) == (132, 133, 135)


def test_keypoints_in_one_place_are_no_face():
    with pytest.raises(NoFaceFound):
        alignment(np.full((5, 2), 7.0))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize("odd", [1, 2, 5])
def test_keypoints_that_are_in_no_picture_are_no_face(
    finder: FaceFinder, portrait: np.ndarray, monkeypatch: pytest.MonkeyPatch, value: float, odd: int
):
    keypoints = np.array(FEATURES, dtype=np.float32)
    keypoints[:odd, odd % 2] = value
    boxes = np.array([(100, 50, 300, 200, 0.9)], np.float32)
    monkeypatch.setattr(finder._detector, "detect", lambda *_, **__: (boxes, keypoints[None]))
    with pytest.raises(NoFaceFound, match="No usable face"):
        finder.find(portrait)


def test_any_keypoints_make_a_crop_or_are_no_face(portrait: np.ndarray):
    draw = np.random.default_rng(5)
    near = draw.normal(size=(5, 2))
    lines = [np.arange(5.0)[:, None] * slope for slope in (np.array([1, 0]), np.array([0, 3]), np.array([2, -1]))]
    pairs = [np.array([(7.0, 7.0)] * same + [(9.0, 9.0 + same)] * (5 - same)) for same in range(1, 6)]
    scaled = [TEMPLATE * 10.0**power + offset for power in range(-30, 7, 6) for offset in (0, -1e4, 1e6)]
    crops = 0
    for keypoints in (*lines, *pairs, *scaled, near * 1e-3, near * 1e9, -TEMPLATE, TEMPLATE[::-1]):
        try:
            assert align(portrait, keypoints.astype(np.float32)).shape == (512, 512, 3)
            crops += 1
        except NoFaceFound:
            pass
    assert crops > 10


def test_an_embedding_that_is_not_finite_is_not_the_callers_fault(
    weights: WeightSet, portrait: np.ndarray, tmp_path: Path
):
    folder = shutil.copytree(weights["face_analysis"], tmp_path / "faces")
    file = folder / "glintr100.onnx"
    network = onnx.load(file)
    weight = network.graph.initializer[-1]
    values = numpy_helper.to_array(weight)
    weight.CopyFrom(numpy_helper.from_array(np.full_like(values, np.nan), weight.name))
    onnx.save(network, file)
    with pytest.raises(NonFiniteResult, match="the face's embedding"):
        FaceFinder(Folder.as_found(folder)).find(portrait)


def test_a_folder_without_models_is_named(tmp_path):
    with pytest.raises(WeightsError, match="holds no face detector"):
        FaceFinder(Folder.as_found(tmp_path))
