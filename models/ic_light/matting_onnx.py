"""Matting networks under permissive licences, as ONNX files (IC-Light specification section 16).

Alternatives to RMBG-1.4: their alpha has the same size, range and meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from models.errors import WeightsError
from models.ic_light.matting import Matting
from models.imaging.resample import resample
from models.imaging.types import Floats, Rgb
from models.runtime.onnx import session_options
from models.weights.folder import linked

_PUBLISHED_SIDE: Final = 1024
_IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
_IMAGENET_DEVIATION: Final = (0.229, 0.224, 0.225)
_SMALLEST_RANGE: Final = 1e-6


@dataclass(frozen=True)
class Preprocessing:
    """Normalisation of a network's input [height, width, 3], and conversion of its output to alpha."""

    normalise: Callable[[Rgb], Floats]
    to_alpha: Callable[[Tensor], Tensor]


def _normalise_birefnet(picture: Rgb) -> Floats:
    return ((picture / 255 - _IMAGENET_MEAN) / _IMAGENET_DEVIATION).astype(np.float32)


def _normalise_isnet(picture: Rgb) -> Floats:
    # Divided by the image's maximum, as by the exporter of these files.
    return (picture / max(int(picture.max()), 1) - 0.5).astype(np.float32)


def _stretch(output: Tensor) -> Tensor:
    """Min-max normalisation; a constant map is left as it is."""
    low, high = output.min(), output.max()
    return (output - low) / (high - low) if high - low > _SMALLEST_RANGE else output


BIREFNET: Final = Preprocessing(_normalise_birefnet, torch.sigmoid)
"""BiRefNet-general and -lite (MIT)."""
ISNET: Final = Preprocessing(_normalise_isnet, _stretch)
"""ISNet general-use (code Apache-2.0)."""


class OnnxMatting(Matting):
    """An ONNX network with one image as its input and one map as its first output."""

    def __init__(self, path: Path, preprocessing: Preprocessing, device: torch.device) -> None:
        """Load the file at `path`; the output goes to `device`. Raises `WeightFileError` if it is no such network."""
        self._protocol, self._device = preprocessing, device
        with linked(path) as link:
            self._session = onnxruntime.InferenceSession(link, session_options(), providers=_providers(device))
            inputs, output = self._session.get_inputs(), self._session.get_outputs()[0]
            if (
                len(inputs) != 1
                or len(inputs[0].shape) != 4
                or not _is_batch(inputs[0], channels=3)
                or not _is_batch(output, channels=1)
            ):
                raise WeightsError("it is no matting network: it does not map a batch of pictures to a batch of maps.")
        self._input = inputs[0].name
        self._size = tuple(_side(named) for named in inputs[0].shape[2:])

    def to_feed(self, picture: Tensor) -> Tensor:
        """Run the network on an image scaled to the input size of the file: float32 [1, 1, height, width].

        1024 px where the size is dynamic; aspect is not kept. onnxruntime takes seconds on a CPU: here they pass beside
        the device's work on other requests.
        """
        height, width = self._size
        scaled = resample(picture, width, height).numpy()
        batch = np.ascontiguousarray(self._protocol.normalise(scaled).transpose(2, 0, 1)[None])
        output = self._session.run(None, {self._input: batch})[0]
        return self._protocol.to_alpha(torch.from_numpy(output)[:1, :1].float())

    def predict(self, feed: Tensor) -> Tensor:
        """The map, on the device."""
        return feed.to(self._device, non_blocking=True)


def _side(named: int | str | None) -> int:
    # A dynamic dimension has a name, or none.
    return named if isinstance(named, int) else _PUBLISHED_SIDE


def _is_batch(tensor: Any, channels: int) -> bool:
    """Whether an input or output is float32 [n, channels, h, w]; dynamic dimensions match any size."""
    if tensor.type != "tensor(float)" or len(tensor.shape) not in (0, 4):
        return False
    return not tensor.shape or not isinstance(tensor.shape[1], int) or tensor.shape[1] == channels


def _providers(device: torch.device) -> list[str]:
    # The default build of onnxruntime is CPU only.
    wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
    return [name for name in (*wanted, "CPUExecutionProvider") if name in onnxruntime.get_available_providers()]
