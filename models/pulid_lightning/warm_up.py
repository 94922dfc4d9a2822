"""What is compiled and recorded before the first request, with requests that nobody made."""

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
"""Two kinds of requests in which all sizes differ, also from each other: equal ones would be taken for one."""
_EQUAL: Final = ((1, 1), (2, 2))
_UNEQUAL: Final = ((1, 2), (1, 3))
"""How many chunks of tokens the negative prompt and the prompt have, in one of either kind."""


class WarmUp:
    """Shows the runners of a pipeline what they will meet."""

    def __init__(
        self, tokenise: Tokenise, conditions: Conditioner, predict: Runner[Tensor], decode: Runner[Decoded]
    ) -> None:
        """Take the pipeline's parts."""
        self._tokenise, self._conditions, self._predict, self._decode = tokenise, conditions, predict, decode

    def compile(self, checkpoint: Checkpoint, name: str) -> None:
        """Compile for pictures of any size and number, texts of any length, and both face styles."""
        kinds = [default_of(name).model_copy(update=kind) for kind in (_SMALL, _LARGE)]
        for chunks in (_EQUAL, _UNEQUAL):
            small, large = (self.request(params, *count) for params, count in zip(kinds, chunks, strict=True))
            self._predict.compile(checkpoint.unet, self._inputs(small, checkpoint), self._inputs(large, checkpoint))
        latents = [(request.latents[:1].to(checkpoint.vae.device),) for request in (small, large)]
        self._decode.compile(checkpoint.vae, *latents)

    def record(self, checkpoint: Checkpoint, name: str) -> None:
        """Record what a default request needs of this very checkpoint."""
        request = self.request(default_of(name))
        self._predict.capture(checkpoint.unet, *self._inputs(request, checkpoint))
        self._decode.capture(checkpoint.vae, request.latents.to(checkpoint.vae.device))

    def request(self, params: Params, negative: int = 1, positive: int = 1) -> Prepared:
        """A request whose prompts have so many chunks of tokens, with a face that is black."""
        face = FoundFace(np.zeros((CROP_SIDE, CROP_SIDE, 3), np.uint8), np.zeros(512, np.float32))
        return Prepared(params, "", face, self._words(positive), self._words(negative), *sample_noise(params))

    def _words(self, chunks: int) -> PromptTokens:
        """A prompt with so many chunks of tokens."""
        return self._tokenise(" ".join(["a"] * (CHUNK * (chunks - 1) + 1)))

    def _inputs(self, request: Prepared, checkpoint: Checkpoint) -> tuple[Tensor, Tensor, tuple[Any, ...]]:
        """What the UNet is given in the first evaluation."""
        conditions = self._conditions([request], checkpoint)
        latents = request.latents.to(checkpoint.unet.device, checkpoint.unet.dtype)
        return latents.repeat(2, 1, 1, 1), conditions.shifts[timestep_of(SIGMAS[0])], conditions.contexts


def default_of(name: str) -> Params:
    """A default request for a checkpoint."""
    return Params.model_validate({"face_image": "-", "checkpoint_model": name, "seed": 0})
