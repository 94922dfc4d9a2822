"""`align`: five keypoints to the aligned crop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import cv2
import numpy as np

from models.pulid_lightning.identity import face
from tests.parity.pulid.vector import Vector
from tests.parity.report import Row, exact, within

_SOURCE_SIZE: Final = (640, 480)
_LEVELS: Final = 2
_STRIDE: Final = 8


def check(vector: Vector) -> Iterator[Row]:
    """The template, every alignment, every crop."""
    golden = {key: tensor.cpu().numpy() for key, tensor in vector.tensors.items()}
    yield exact("template", face.TEMPLATE, golden["template"])
    bgr = cv2.resize(golden["image_bgr_u8_small"], _SOURCE_SIZE, interpolation=cv2.INTER_CUBIC)
    picture = np.ascontiguousarray(bgr[:, :, ::-1])
    for number, keypoints in enumerate(golden["landmarks"]):
        yield vector.close(f"affine {number}", face.alignment(keypoints), golden["affine"][number])
        name = f"crop{number}_sub8"
        crop = face.align(picture, keypoints)[::_STRIDE, ::_STRIDE, ::-1]
        yield within(name, crop, golden[name], _LEVELS)
