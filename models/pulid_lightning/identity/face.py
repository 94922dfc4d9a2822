"""Finding the face, describing it and cutting it out (PuLID specification section 2, A and B)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from insightface.app.common import Face
from insightface.model_zoo import get_model
from numpy.typing import NDArray

from models.errors import NoFaceFound, NonFiniteResult, WeightFileError, WeightsError
from models.imaging.types import Floats, Rgb
from models.runtime.onnx import session_options
from models.weights.folder import Folder, linked

DETECTION_SIZES: Final = (640, 576, 512, 448, 384, 320)
"""Sides in px of the square that the picture is fitted into, tried in this order until a face shows."""
_LEAST_SIDE: Final = 8
"""Px that the scaled picture's shorter side must have: half of the detector's smallest anchor, too few for a face."""
CROP_SIDE: Final = 512
EMBEDDING: Final = 512
"""Numbers that describe a face."""
_THRESHOLD: Final = 0.5
TEMPLATE: Final = np.array(
    [
        (192.98138, 239.94708),
        (318.90277, 240.1936),
        (256.63416, 314.01935),
        (201.26117, 371.41043),
        (313.08905, 371.15118),
    ]
)
"""Where the two eyes, the tip of the nose and the corners of the mouth lie in an aligned crop: (x, y) in px."""
_FARTHEST: Final = 1e7
"""Px from the origin that no picture reaches."""
_BORDER_RGB: Final = (132, 133, 135)


@dataclass(frozen=True)
class FoundFace:
    """The face of one picture.

    `crop`: aligned, RGB, [512, 512, 3]. `embedding`: ArcFace, float32, [512], as it leaves the network (its length
    carries information, so it is not normalised).
    """

    crop: Rgb
    embedding: NDArray[np.float32]


class FaceFinder:
    """A face detector and a face recogniser, both ONNX on the CPU."""

    def __init__(self, folder: Folder) -> None:
        """Load the first detector and the first recogniser among the recorded files of `folder`.

        Raises `WeightFileError` if either is missing or a file is damaged.
        """
        found: dict[str, Any] = {}
        for path in folder.ending_in(".onnx"):
            with linked(path) as link:
                model = _load(link)
                found.setdefault(model.taskname, model)
        for task, network in (("detection", "detector"), ("recognition", "recogniser")):
            if task not in found:
                files = " and ".join(map(str, folder.ending_in(".onnx"))) or folder.path
                raise WeightFileError(f"{files}: it holds no face {network}.")
        self._detector, self._recogniser = found["detection"], found["recognition"]

    def find(self, picture: Rgb) -> FoundFace:
        """Find the largest face; the same picture gives the same result to the bit.

        Raises `NoFaceFound`, and `NonFiniteResult` if the recogniser describes the face by inf or nan.
        """
        # insightface works in OpenCV's channel order.
        bgr = np.ascontiguousarray(picture[:, :, ::-1])
        keypoints = self._largest(bgr)
        crop = align(picture, keypoints)  # before the recogniser, which fails on keypoints that have no alignment
        face = Face(kps=keypoints)
        self._recogniser.get(bgr, face)
        embedding = face.embedding.astype(np.float32)
        if not np.isfinite(embedding).all():
            raise NonFiniteResult("the face's embedding")
        return FoundFace(crop=crop, embedding=embedding)

    def _largest(self, bgr: Rgb) -> Floats:
        # A face that fills the picture shows better when it is scaled down further.
        for side in detection_sizes(*bgr.shape[:2]):
            boxes, keypoints = self._detector.detect(bgr, input_size=(side, side))
            if len(boxes):
                chosen: Floats = keypoints[largest(boxes)]
                return chosen
        raise NoFaceFound("No face was found in face_image.")


def detection_sizes(height: int, width: int) -> list[int]:
    """Those of `DETECTION_SIZES` at which a face can show in a picture of so many px: none for a long strip.

    The library scales the longer side to a size and drops the fraction of the shorter one, of which nothing is left
    beyond an aspect of 320:1 to 640:1: it would fail there.
    """
    short, long = sorted((height, width))
    return [side for side in DETECTION_SIZES if side * short >= _LEAST_SIDE * long]


def largest(boxes: Floats) -> int:
    """Index of the box of the largest area; `boxes` is [n, 4 or more], rows begin with x1, y1, x2, y2 in px."""
    return int(np.argmax((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])))


def alignment(keypoints: Floats) -> NDArray[np.float64]:
    """The similarity [2, 3] that moves five keypoints [5, 2] to the 512 px FFHQ template (least median of squares).

    Raises `NoFaceFound` if the points coincide and so have no such transform, or if one is in no picture.
    """
    # The fit below would ignore one odd point, and the recogniser's own alignment would then fail on it.
    if not (np.abs(keypoints) < _FARTHEST).all():  # nor is nan less than anything
        raise NoFaceFound("No usable face was found in face_image.")
    # A least-squares fit is not the same: it gives way to a badly placed point, this one ignores it.
    matrix, _ = cv2.estimateAffinePartial2D(keypoints, TEMPLATE, method=cv2.LMEDS)
    if matrix is None:
        raise NoFaceFound("No usable face was found in face_image.")
    return np.asarray(matrix, dtype=np.float64)


def align(picture: Rgb, keypoints: Floats) -> Rgb:
    """Cut the face out upright at 512 x 512 px; what lies outside of the picture becomes grey."""
    crop = cv2.warpAffine(picture, alignment(keypoints), (CROP_SIDE, CROP_SIDE), borderValue=_BORDER_RGB)
    return np.asarray(crop, dtype=np.uint8)


def _load(path: Path) -> Any:
    """The network that an ONNX file holds, ready for use on the CPU; raises whatever the libraries do."""
    # By its path: the library's own loader takes every file of a folder, whichever it finds first for a task.
    model = get_model(
        str(path),
        providers=["CPUExecutionProvider"],
        sess_options=session_options(),
        static_shape_sessions=False,  # one session for all detection sizes instead of one for each
    )
    if model is None:
        raise WeightsError("it is no network for faces.")
    if model.taskname == "detection":
        model.prepare(-1, input_size=(DETECTION_SIZES[0],) * 2, det_thresh=_THRESHOLD)
        side = DETECTION_SIZES[-1]
        boxes, keypoints = model.detect(np.zeros((side, side, 3), np.uint8), input_size=(side, side))
        if boxes.shape[1:] != (5,) or keypoints is None or keypoints.shape[1:] != (5, 2):
            raise WeightsError("it finds faces without their five keypoints.")
    if model.taskname == "recognition":
        model.prepare(-1)
        width, height = model.input_size
        embedding = model.get_feat(np.zeros((height, width, 3), np.uint8))
        if embedding.shape != (1, EMBEDDING):
            raise WeightsError(f"it describes faces by {list(embedding.shape)} where [1, {EMBEDDING}] is due.")
    return model
