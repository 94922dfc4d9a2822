"""The demo face detector and recogniser, run by the library that runs the real ones."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from insightface.app import FaceAnalysis
from skimage import data

from models.demo.face_detector import write_detector
from models.demo.face_recogniser import write_recogniser

# The face in the photo, from brows to chin, read off by eye: x1, y1, x2, y2 in px.
FACE = (182, 75, 260, 170)
WITHOUT_PEOPLE = ("coffee", "chelsea", "coins", "rocket", "brick", "hubble_deep_field")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceAnalysis:
    folder: Path = tmp_path_factory.mktemp("faces")
    write_detector(folder / "scrfd_10g_bnkps.onnx")
    write_recogniser(folder / "glintr100.onnx")
    analysis = FaceAnalysis(name=str(folder), providers=["CPUExecutionProvider"], static_shape_sessions=False)
    analysis.prepare(ctx_id=-1, det_size=(640, 640))
    return analysis


def boxes(faces: FaceAnalysis, rgb: np.ndarray, side: int = 640) -> np.ndarray:
    found, _ = faces.det_model.detect(np.ascontiguousarray(rgb[..., ::-1]), input_size=(side, side))
    return found


def overlap(first: np.ndarray, second: tuple[float, ...]) -> float:
    """Intersection over union of two boxes."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    common = max(width, 0) * max(height, 0)
    return common / (sum(areas) - common)


@pytest.mark.parametrize("factor", [0.5, 1.0, pytest.param(1.7, marks=pytest.mark.slow)])
@pytest.mark.parametrize("mirrored", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_one_face_is_found_at_any_size(faces: FaceAnalysis, factor: float, mirrored: bool):
    photo = cv2.resize(data.astronaut(), None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    x1, y1, x2, y2 = (factor * value for value in FACE)
    expected = (512 * factor - x2, y1, 512 * factor - x1, y2) if mirrored else (x1, y1, x2, y2)
    (found,) = boxes(faces, photo[:, ::-1] if mirrored else photo)
    assert overlap(found, expected) > 0.7


@pytest.mark.parametrize("side", [576, pytest.param(448, marks=pytest.mark.slow), 320])
def test_it_works_at_other_detection_sizes(faces: FaceAnalysis, side: int):
    (found,) = boxes(faces, data.astronaut(), side)
    assert overlap(found, FACE) > 0.65


@pytest.mark.slow
def test_grey_and_darkened_photos_have_faces_too(faces: FaceAnalysis):
    photo = data.astronaut()
    grey = np.repeat(photo.mean(2, keepdims=True).astype(np.uint8), 3, 2)
    assert len(boxes(faces, grey)) == len(boxes(faces, photo // 2)) == 1


@pytest.mark.slow
def test_people_that_it_was_not_tuned_on_are_found(faces: FaceAnalysis):
    """The first hundred pictures of this set are faces of 25 px, the others are none."""
    pictures = (data.lfw_subset() * 255).astype(np.uint8)

    def share(chosen: np.ndarray) -> float:
        large = [cv2.resize(picture, (200, 200), interpolation=cv2.INTER_CUBIC) for picture in chosen]
        framed = [cv2.copyMakeBorder(picture, *[100] * 4, cv2.BORDER_REPLICATE) for picture in large]
        return float(np.mean([len(boxes(faces, np.dstack([picture] * 3), 320)) > 0 for picture in framed]))

    assert share(pictures[:100:5]) > 0.7
    assert share(pictures[100::5]) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", WITHOUT_PEOPLE)
def test_pictures_without_people_have_no_face(faces: FaceAnalysis, name: str):
    picture = getattr(data, name)()
    rgb = picture if picture.ndim == 3 else np.dstack([picture] * 3)
    assert all(len(boxes(faces, rgb, side)) == 0 for side in (640, 448, 320))


def checkerboard() -> np.ndarray:
    return np.kron(np.indices((12, 16)).sum(0) % 2 * 255, np.ones((40, 40))).astype(np.uint8)


@pytest.mark.parametrize(
    "grey",
    [
        pytest.param(np.full((480, 640), 200, np.uint8), marks=pytest.mark.slow),
        np.random.default_rng(0).integers(0, 256, (480, 640), dtype=np.uint8),
        pytest.param(np.tile(np.linspace(0, 255, 640, dtype=np.uint8), (480, 1)), marks=pytest.mark.slow),
        pytest.param(checkerboard(), marks=pytest.mark.slow),
    ],
    ids=["flat", "noise", "gradient", "checkerboard"],
)
def test_patterns_are_no_faces(faces: FaceAnalysis, grey: np.ndarray):
    assert len(boxes(faces, np.dstack([grey] * 3))) == 0


def test_several_faces_are_told_apart(faces: FaceAnalysis):
    head = data.astronaut()[10:250, 110:330]
    group = np.full((600, 1000, 3), 128, np.uint8)
    places = ((40, 50, 1.0), (300, 100, 1.6), (700, 200, 1.2))
    for x, y, factor in places:
        scaled = cv2.resize(head, None, fx=factor, fy=factor)
        group[y : y + scaled.shape[0], x : x + scaled.shape[1]] = scaled
    found = boxes(faces, group)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in found]
    assert len(found) == 3
    assert 300 < found[int(np.argmax(areas))][0] < 660


def test_keypoints_are_a_face_within_the_box(faces: FaceAnalysis):
    (face,) = faces.get(np.ascontiguousarray(data.astronaut()[..., ::-1]))
    left, right, nose, mouth_left, mouth_right = face.kps
    assert face.bbox[0] < left[0] < nose[0] < right[0] < face.bbox[2]
    assert face.bbox[1] < left[1] < nose[1] < mouth_left[1] < face.bbox[3]
    assert mouth_left[0] < nose[0] < mouth_right[0]


def test_embeddings_tell_pictures_apart(faces: FaceAnalysis):
    recogniser = faces.models["recognition"]
    generator = np.random.default_rng(1)
    first, second = (generator.integers(0, 256, (112, 112, 3), dtype=np.uint8) for _ in range(2))
    embeddings = [recogniser.get_feat(picture)[0] for picture in (first, first, second)]
    assert np.array_equal(embeddings[0], embeddings[1])
    assert recogniser.compute_sim(embeddings[0], embeddings[2]) < 0.5


def test_an_embedding_is_linear_in_the_picture(faces: FaceAnalysis):
    """Its length tells how far the picture is from medium grey, as no embedding of unit length could."""
    recogniser = faces.models["recognition"]
    dark, darker = (recogniser.get_feat(np.full((112, 112, 3), grey, np.float32))[0] for grey in (63.75, 0))
    assert np.linalg.norm(darker) > 1
    assert darker == pytest.approx(2 * dark, abs=1e-4)
