"""Face detection, embedding and alignment (PuLID specification section 2, A and B)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch
from insightface.app.common import Face
from insightface.model_zoo import get_model
from numpy.typing import NDArray

from models.errors import NoFaceFound, NonFiniteResult, WeightFileError, WeightsError
from models.imaging.types import Floats, Rgb
from models.pulid_lightning.identity.device_session import DeviceSession, DeviceThread
from models.pulid_lightning.identity.onnx_operators import UnsupportedGraph
from models.runtime.onnx import session_options
from models.weights.folder import Folder, linked

DETECTION_SIZES: Final = (640, 576, 512, 448, 384, 320)
"""Input sides of the detector in px, tried in this order until a face is detected."""
_LEAST_SIDE: Final = 8
"""Minimum of the scaled image's shorter side in px: half of the detector's smallest anchor."""
CROP_SIDE: Final = 512
EMBEDDING: Final = 512
"""Dimensions of a face embedding."""
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
"""(x, y) in px of eyes, nose tip and mouth corners in an aligned crop: the FFHQ template."""
_FARTHEST: Final = 1e7
"""Bound of plausible keypoint coordinates in px."""
_BORDER_RGB: Final = (132, 133, 135)
_NETWORKS: Final = {"detection": "detector", "recognition": "recogniser"}
"""What insightface calls the networks' tasks."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundFace:
    """The face of one picture.

    `crop`: aligned, uint8 RGB [512, 512, 3]. `embedding`: ArcFace, float32 [512], not normalised: its norm carries
    information.
    """

    crop: Rgb
    embedding: NDArray[np.float32]


class FaceFinder:
    """A face detector and a face recogniser from ONNX files: by onnxruntime on the CPU, or by torch on a device."""

    def __init__(self, folder: Folder, device: torch.device | None = None) -> None:
        """Load the first detector and the first recogniser among the recorded files of `folder`.

        A network that torch cannot run on `device` stays on the CPU, and `fallbacks` says why; without a device both
        do. Raises `WeightFileError` if either is missing or a file is damaged.
        """
        self.fallbacks: list[str] = []
        """What runs on the CPU instead of the device, and why."""
        thread = DeviceThread(device) if device is not None else None
        found: dict[str, Any] = {}
        for path in folder.ending_in(".onnx"):
            with linked(path) as link:
                model = _load(link)
                if model.taskname in found:
                    continue
                found[model.taskname] = model
                if thread and model.taskname in _NETWORKS:
                    self._to_device(model, link, thread)
        for task, network in _NETWORKS.items():
            if task not in found:
                files = " and ".join(map(str, folder.ending_in(".onnx"))) or folder.path
                raise WeightFileError(f"{files}: it holds no face {network}.")
        self._detector, self._recogniser = found["detection"], found["recognition"]

    def find(self, picture: Rgb) -> FoundFace:
        """Detect, embed and align the largest face; deterministic, bit-exact on the CPU.

        Raises `NoFaceFound`, and `NonFiniteResult` if the embedding has inf or nan.
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
        # A face that fills the image is detected at a smaller input size.
        for side in detection_sizes(*bgr.shape[:2]):
            boxes, keypoints = self._detector.detect(bgr, input_size=(side, side))
            if len(boxes):
                chosen: Floats = keypoints[largest(boxes)]
                return chosen
        raise NoFaceFound("No face was found in face_image.")

    def _to_device(self, model: Any, path: Path, thread: DeviceThread) -> None:
        """Run the network by torch from now on, if it can; the library around it stays the same."""
        try:
            model.session = DeviceSession(path, model.session, thread)
        except UnsupportedGraph as error:
            reason = (
                f"the face {_NETWORKS[model.taskname]} runs on the CPU instead of {thread.device} because of {error}"
            )
            _log.warning("%s", reason)
            self.fallbacks.append(reason)
            return
        # Libraries choose their kernels at the first image of a size.
        for side in DETECTION_SIZES if model.taskname == "detection" else ():
            model.detect(np.zeros((side, side, 3), np.uint8), input_size=(side, side))
        if model.taskname == "recognition":
            model.get_feat(np.zeros((*model.input_size, 3), np.uint8))


def detection_sizes(height: int, width: int) -> list[int]:
    """The `DETECTION_SIZES` that are usable for an image of `height` x `width` px: none for extreme aspect ratios.

    The library scales the longer side to the size and truncates the shorter one, which would be 0 px beyond an aspect
    of 320:1 to 640:1.
    """
    short, long = sorted((height, width))
    return [side for side in DETECTION_SIZES if side * short >= _LEAST_SIDE * long]


def largest(boxes: Floats) -> int:
    """Index of the box with the largest area; `boxes` [n, 4 or more]: x1, y1, x2, y2 in px, …"""
    return int(np.argmax((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])))


def alignment(keypoints: Floats) -> NDArray[np.float64]:
    """Similarity transform [2, 3] of five keypoints [5, 2] to the 512 px FFHQ template (least median of squares).

    Raises `NoFaceFound` if the points are degenerate or implausible.
    """
    # The fit ignores an outlier, but the recogniser's own alignment would fail on it.
    if not (np.abs(keypoints) < _FARTHEST).all():  # false for nan too
        raise NoFaceFound("No usable face was found in face_image.")
    # Not a least-squares fit, which outliers distort.
    matrix, _ = cv2.estimateAffinePartial2D(keypoints, TEMPLATE, method=cv2.LMEDS)
    if matrix is None:
        raise NoFaceFound("No usable face was found in face_image.")
    return np.asarray(matrix, dtype=np.float64)


def align(picture: Rgb, keypoints: Floats) -> Rgb:
    """Warp the face to an upright 512 x 512 px crop; outside of the image is grey."""
    crop = cv2.warpAffine(picture, alignment(keypoints), (CROP_SIDE, CROP_SIDE), borderValue=_BORDER_RGB)
    return np.asarray(crop, dtype=np.uint8)


def _load(path: Path) -> Any:
    """Load the network of an ONNX file for the CPU; raises any exception of the libraries."""
    # One file: the library's folder loader takes the first file it finds for a task.
    model = get_model(
        str(path),
        providers=["CPUExecutionProvider"],
        sess_options=session_options(),
        static_shape_sessions=False,  # one session for all detection sizes instead of one for each
    )
    if model is None:
        raise WeightsError("it is no network for faces.")
    # Not with a negative number for the CPU: the library would have the session built a second time.
    if model.taskname == "detection":
        model.prepare(0, input_size=(DETECTION_SIZES[0],) * 2, det_thresh=_THRESHOLD)
        side = DETECTION_SIZES[-1]
        boxes, keypoints = model.detect(np.zeros((side, side, 3), np.uint8), input_size=(side, side))
        if boxes.shape[1:] != (5,) or keypoints is None or keypoints.shape[1:] != (5, 2):
            raise WeightsError("it finds faces without their five keypoints.")
    if model.taskname == "recognition":
        width, height = model.input_size
        embedding = model.get_feat(np.zeros((height, width, 3), np.uint8))
        if embedding.shape != (1, EMBEDDING):
            raise WeightsError(f"it describes faces by {list(embedding.shape)} where [1, {EMBEDDING}] is due.")
    return model
