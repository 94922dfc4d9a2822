"""Prepared requests, and the UNet's conditions that are computed from them once per run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor

from models.lru import LRUCache
from models.pulid_lightning.adapter import Projection
from models.pulid_lightning.attention import METHODS, identity_contexts, layer_numbers
from models.pulid_lightning.checkpoints import Checkpoint
from models.pulid_lightning.identity.encoder import Identity
from models.pulid_lightning.identity.extractor import IdentityExtractor
from models.pulid_lightning.identity.face import FoundFace
from models.pulid_lightning.options import BodyWeighting
from models.pulid_lightning.params import Params
from models.pulid_lightning.prompt import CHUNK
from models.pulid_lightning.sampler import STEPS, initial_latents, karras_sigmas, precompute_noise, sigma_steps
from models.pulid_lightning.sdxl import LATENT_CHANNELS, LATENT_SCALE, Conditions, time_ids, timestep_shifts
from models.pulid_lightning.text_encoder import (
    PromptTokens,
    TextEmbeddings,
    encode_prompt,
    penultimate_states,
    row_by_row,
    stack_prompts,
)
from models.runtime.projections import repeat
from models.runtime.runner import EAGER, Execution, Runner
from models.runtime.stage_clock import StageClock
from models.runtime.unet import added_embedding, cross_attentions, rows_of_pictures, text_contexts

FACE_CACHE_SIZE: Final = 64
"""Faces cached in host memory, 1 MB each."""
_PROMPT_CACHE_SIZE: Final = 64
"""Text embeddings cached on the device, 0.3 MB for every 75 tokens."""
SIGMAS: Final = karras_sigmas(STEPS)
SIGMA_STEPS: Final = sigma_steps(SIGMAS)
"""The steps that add noise."""
_noise_threads: Final = ThreadPoolExecutor(2, "noise")


@dataclass(frozen=True)
class Prepared:
    """Everything that the CPU computes for a request.

    `image_hash`: SHA-256 of the uploaded file, in hex. `latents` [n, 4, h, w]: start noise. `noise` [steps, n, 4, h,
    w]: noise of the ancestral steps, as `precompute_noise` returns it; other threads may be sampling it still. Both are
    in host memory.
    """

    params: Params
    image_hash: str
    face: FoundFace
    prompt: PromptTokens
    negative_prompt: PromptTokens
    latents: Tensor
    noise: Future[Tensor]


def sample_noise(params: Params) -> tuple[Tensor, Future[Tensor]]:
    """`latents` and `noise` of a `Prepared`. The noise is sampled beside the caller: it is first needed in a run."""
    width, height = params.output_size
    shape = params.number_of_images, LATENT_CHANNELS, height // LATENT_SCALE, width // LATENT_SCALE
    noise = _noise_threads.submit(precompute_noise, shape, params.seed, SIGMAS)
    return initial_latents(shape, params.seed, SIGMAS[0]), noise


class Conditioner:
    """Computes text embeddings and ID tokens, with a cache of the most recent of both."""

    def __init__(
        self,
        extractor: IdentityExtractor,
        unet: Any,
        projections: Mapping[int, Projection],
        body_weighting: BodyWeighting,
        device: torch.device,
        clock: StageClock,
        execution: Execution = EAGER,
    ) -> None:
        """`projections` of the adapter, for any checkpoint's `unet`; `clock` is told the stages.

        Raises `WeightsError` if the projections do not match.
        """
        # Not compiled: in a graph their launches are free, and compiling 44 layers takes minutes.
        self.encode: Final = Runner(penultimate_states, replace(execution, compiler=None))
        self._extractor, self._body_weighting, self._device = extractor, body_weighting, device
        self._clock = clock
        self._projections = [projections[layer] for layer in layer_numbers(unet, projections)]
        self._identities: LRUCache[Identity] = LRUCache(FACE_CACHE_SIZE)
        self._texts: LRUCache[TextEmbeddings] = LRUCache(_PROMPT_CACHE_SIZE)

    def __call__(self, batch: Sequence[Prepared], checkpoint: Checkpoint) -> Conditions:
        """Conditions of requests that agree in checkpoint, size and face style."""
        unet, params = checkpoint.unet, batch[0].params
        self._clock.enter("text")
        prompts = [self._embed(checkpoint, params.checkpoint_model, tokens) for tokens in _branches(batch)]
        text, bias = stack_prompts(prompts)
        rows = rows_of_pictures([request.params.number_of_images for request in batch] * 2, self._device)
        sizes = time_ids(params.output_size, len(prompts), self._device)
        added = repeat(added_embedding(unet, text.pooled, sizes), rows)
        text_rows = text_contexts(unet, text.tokens, bias, rows)
        self._clock.enter("encode")
        contexts = identity_contexts(
            text_rows,
            [self._identify(request) for request in batch],
            self._projections,
            [layer.heads for layer in cross_attentions(unet)],
            replace(METHODS[params.face_style], body_weighting=self._body_weighting),
            rows,
        )
        return Conditions(contexts, timestep_shifts(unet, SIGMAS, added))

    def capture(self, checkpoint: Checkpoint) -> None:
        """Capture the checkpoint's text encoders."""
        for encoder in (checkpoint.clip_l, checkpoint.clip_g):
            self.encode.capture(encoder, torch.zeros(1, CHUNK, dtype=torch.int64, device=self._device))

    def clear_caches(self) -> None:
        """Drop all cached embeddings."""
        self._identities.clear()
        self._texts.clear()

    def _identify(self, request: Prepared) -> Identity:
        return self._identities.get_or_create(request.image_hash, lambda: self._extractor.extract(request.face))

    def _embed(self, checkpoint: Checkpoint, name: str, tokens: PromptTokens) -> TextEmbeddings:
        clip_l, clip_g = (row_by_row(encoder, self.encode) for encoder in (checkpoint.clip_l, checkpoint.clip_g))
        return self._texts.get_or_create(f"{name} {tokens}", lambda: encode_prompt(tokens, clip_l, clip_g))


def _branches(batch: Sequence[Prepared]) -> Iterator[PromptTokens]:
    """Prompts in the order of the UNet's rows: the negative ones of all requests, then the positive ones."""
    yield from (request.negative_prompt for request in batch)
    yield from (request.prompt for request in batch)
