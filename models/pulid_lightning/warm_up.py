"""Compilation and graph capture before the first request, with synthetic requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from torch import Tensor

from models.outcomes import Decoded
from models.pulid_lightning.checkpoints import Checkpoint
from models.pulid_lightning.conditions import SIGMAS, Conditioner, Prepared, sample_noise
from models.pulid_lightning.identity.face import CROP_SIDE, FoundFace
from models.pulid_lightning.params import Params
from models.pulid_lightning.prompt import CHUNK
from models.pulid_lightning.sampler import timestep_of
from models.pulid_lightning.text_encoder import PromptTokens
from models.runtime.runner import Runner

Tokenise = Callable[[str], PromptTokens]
_SMALL: Final[dict[str, Any]] = {"width": 288, "height": 416, "number_of_images": 2, "face_style": "high-fidelity"}
_LARGE: Final[dict[str, Any]] = {"width": 352, "height": 544, "number_of_images": 3, "face_style": "stylized"}
"""Two requests that differ in every dimension, and whose dimensions differ from each other: equal dimensions would be
compiled as one symbol."""
_EQUAL: Final = ((1, 1), (2, 2))
_UNEQUAL: Final = ((1, 2), (1, 3))
"""Chunks of tokens of (negative prompt, prompt) for `_SMALL` and for `_LARGE`."""


class WarmUp:
    """Compiles and captures the runners of a pipeline."""

    def __init__(
        self, tokenise: Tokenise, conditions: Conditioner, predict: Runner[Tensor], decode: Runner[Decoded]
    ) -> None:
        """Use the parts of the pipeline."""
        self._tokenise, self._conditions, self._predict, self._decode = tokenise, conditions, predict, decode

    def compile(self, checkpoint: Checkpoint, name: str) -> None:
        """Compile for any image size and count, any text length, and both face styles."""
        kinds = [default_of(name).model_copy(update=kind) for kind in (_SMALL, _LARGE)]
        for chunks in (_EQUAL, _UNEQUAL):
            small, large = (self.request(params, *count) for params, count in zip(kinds, chunks, strict=True))
            self._predict.compile(checkpoint.unet, self._inputs(small, checkpoint), self._inputs(large, checkpoint))
        latents = [(request.latents[:1].to(checkpoint.vae.device),) for request in (small, large)]
        self._decode.compile(checkpoint.vae, *latents)

    def capture(self, checkpoint: Checkpoint, name: str) -> None:
        """Capture the text encoders' graphs, and the UNet's of a default request, for this checkpoint.

        The VAE's would keep 1.3 GB of memory for itself; its launches hide behind the last steps.
        """
        self._conditions.capture(checkpoint)
        request = self.request(default_of(name))
        self._predict.capture(checkpoint.unet, *self._inputs(request, checkpoint))

    def request(self, params: Params, negative: int = 1, positive: int = 1) -> Prepared:
        """A request with prompts of `negative` and `positive` chunks of tokens, and a black face crop."""
        face = FoundFace(np.zeros((CROP_SIDE, CROP_SIDE, 3), np.uint8), np.zeros(512, np.float32))
        return Prepared(params, "", face, self._words(positive), self._words(negative), *sample_noise(params))

    def _words(self, chunks: int) -> PromptTokens:
        """A prompt of `chunks` chunks of tokens."""
        return self._tokenise(" ".join(["a"] * (CHUNK * (chunks - 1) + 1)))

    def _inputs(self, request: Prepared, checkpoint: Checkpoint) -> tuple[Tensor, Tensor, tuple[Any, ...]]:
        """Inputs of the first UNet evaluation."""
        conditions = self._conditions([request], checkpoint)
        latents = request.latents.to(checkpoint.unet.device, checkpoint.unet.dtype)
        return latents.repeat(2, 1, 1, 1), conditions.shifts[timestep_of(SIGMAS[0])], conditions.contexts


def default_of(name: str) -> Params:
    """A default request for a checkpoint."""
    return Params.model_validate({"face_image": "-", "checkpoint_model": name, "seed": 0})
