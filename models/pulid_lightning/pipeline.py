"""The stages of `pulid-lightning` in order (PuLID specification section 1)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch

from models.images import decode, to_rgb8
from models.pipeline import DEFAULT_OPTIONS, LoadOptions, OnStep, Pipeline, Pixels
from models.pulid_lightning.adapter import Projection, read_adapter
from models.pulid_lightning.attention import METHODS, BodyShare, install, project_identity
from models.pulid_lightning.face import FaceFinder, FoundFace
from models.pulid_lightning.identify import Identifier, load_identifier
from models.pulid_lightning.identity import Identity
from models.pulid_lightning.params import Params
from models.pulid_lightning.prompt import Tokenizer, tokenize
from models.pulid_lightning.recent import Recent
from models.pulid_lightning.sampler import STEPS, BrownianNoise, initial_latents, karras_sigmas, sample
from models.pulid_lightning.sdxl import (
    LATENT_CHANNELS,
    LATENT_SCALE,
    Checkpoint,
    Conditions,
    condition,
    decode_latents,
    denoiser,
    load_checkpoint,
    load_tokenizers,
)
from models.pulid_lightning.sharing import TensorPool
from models.pulid_lightning.text_encoder import PromptTokens, encode_prompt, stack_branches
from models.weights.weight_set import WeightSet

CHECKPOINTS: Final = ("default", "artistic", "realistic")
_ALWAYS_NEGATIVE: Final = "nsfw, nude, "
_REMEMBERED_FACES: Final = 64
"""How many pictures' faces are kept in memory, a megabyte each."""


@dataclass(frozen=True)
class Prepared:
    """A request that waits for the device; `picture` is the SHA-256 of the caller's file."""

    params: Params
    picture: str
    face: FoundFace
    prompt: PromptTokens
    negative_prompt: PromptTokens


class PulidLightning(Pipeline[Params, Prepared]):
    """All weights of the endpoint, on one device."""

    def __init__(
        self,
        faces: FaceFinder,
        tokenizers: tuple[Tokenizer, Tokenizer],
        identifier: Identifier,
        projections: Mapping[int, Projection],
        checkpoints: Mapping[str, Checkpoint],
        device: torch.device,
        body_share: BodyShare = "comfyui",
    ) -> None:
        """Take what `load` has loaded."""
        self._faces, self._tokenizers, self._identifier = faces, tokenizers, identifier
        self._projections, self._checkpoints, self._device = projections, checkpoints, device
        self._body_share = body_share
        self._found: Recent[FoundFace] = Recent(_REMEMBERED_FACES)
        self._identities: Recent[Identity] = Recent(_REMEMBERED_FACES)

    def prepare(self, params: Params, images: Mapping[str, bytes]) -> Prepared:
        """Decode the picture, find its largest face, tokenise both prompts.

        A picture that was seen lately is neither decoded nor searched again. Raises `UnreadableImage` or
        `NoFaceFound`.
        """
        file = images["face_image"]
        picture = hashlib.sha256(file).hexdigest()
        return Prepared(
            params=params,
            picture=picture,
            face=self._found.get(picture, lambda: self._find(file)),
            prompt=self._tokenize(params.prompt),
            negative_prompt=self._tokenize(_ALWAYS_NEGATIVE + params.negative_prompt),
        )

    @torch.inference_mode()
    def run(self, prepared: Prepared, on_step: OnStep) -> Pixels:
        """Draw the pictures; `on_step` counts the evaluations of the UNet, seven for all pictures together."""
        params = prepared.params
        checkpoint = self._checkpoints[params.checkpoint_model]
        shape = _latent_shape(params)
        sigmas = karras_sigmas(STEPS)
        latents = initial_latents(shape, params.seed, sigmas[0]).to(self._device)
        denoise = denoiser(checkpoint.unet, self._conditions(prepared, checkpoint))
        noise = BrownianNoise(shape, params.seed, sigmas)
        return decode_latents(checkpoint.vae, sample(denoise, latents, sigmas, noise, on_step))

    def _find(self, file: bytes) -> FoundFace:
        return self._faces.find(np.asarray(to_rgb8(decode(file))))

    def _conditions(self, prepared: Prepared, checkpoint: Checkpoint) -> Conditions:
        params = prepared.params
        identity = self._identities.get(prepared.picture, lambda: self._identifier.identify(prepared.face))
        method = replace(METHODS[params.face_style], body_share=self._body_share)
        pictures = params.number_of_images
        injected = project_identity(identity, self._projections, method, pictures)
        uncond, cond = (
            encode_prompt(prompt, checkpoint.clip_l, checkpoint.clip_g)
            for prompt in (prepared.negative_prompt, prepared.prompt)
        )
        text, mask = stack_branches(uncond, cond)
        return condition(text, mask, injected, pictures, params.output_size)

    def _tokenize(self, prompt: str) -> PromptTokens:
        return PromptTokens(*(tokenize(prompt, tokenizer) for tokenizer in self._tokenizers))


def load(weights: WeightSet, device: torch.device, options: LoadOptions = DEFAULT_OPTIONS) -> PulidLightning:
    """Load every network onto `device`, the three checkpoints side by side; raises `WeightsError`.

    Noise is drawn on the CPU whatever the options say.
    """
    config, pool = weights["sdxl_config"], TensorPool()
    adapter = read_adapter(weights["pulid_adapter"])
    checkpoints = {
        name: load_checkpoint(weights[f"sdxl_checkpoint_{name}"], config, device, pool) for name in CHECKPOINTS
    }
    for checkpoint in checkpoints.values():
        install(checkpoint.unet, set(adapter.projections))
    # In the UNet's precision, for the keys and values meet its queries.
    dtype = checkpoints[CHECKPOINTS[0]].unet.dtype
    return PulidLightning(
        faces=FaceFinder(weights["face_analysis"]),
        tokenizers=load_tokenizers(config),
        identifier=load_identifier(weights["face_parser"], weights["eva_clip"], adapter.encoder, device),
        projections={layer: weight.to(device, dtype) for layer, weight in adapter.projections.items()},
        checkpoints=checkpoints,
        device=device,
        body_share=options.pulid_body_share,
    )


def _latent_shape(params: Params) -> tuple[int, int, int, int]:
    width, height = params.output_size
    return params.number_of_images, LATENT_CHANNELS, height // LATENT_SCALE, width // LATENT_SCALE
