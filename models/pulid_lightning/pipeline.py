"""The stages of `pulid-lightning` in order (PuLID specification section 1)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

import torch

from models.errors import InputRefused, WeightsError
from models.images import decode, to_pixels
from models.loading import load_part
from models.pipeline import DEFAULT_OPTIONS, LoadOptions, OnStep, Pipeline, Pixels
from models.pulid_lightning.adapter import Projection, read_adapter
from models.pulid_lightning.attention import METHODS, BodyShare, install, project_identity
from models.pulid_lightning.bisenet import load_bisenet
from models.pulid_lightning.checkpoints import (
    Checkpoint,
    Checkpoints,
    load_checkpoints,
    role_of,
    serving_dtype,
)
from models.pulid_lightning.eva_clip import load_eva_clip
from models.pulid_lightning.face import FaceFinder, FoundFace
from models.pulid_lightning.identify import Identifier, load_encoder
from models.pulid_lightning.identity import Identity, IdentityEncoder
from models.pulid_lightning.params import Params
from models.pulid_lightning.prompt import Tokenizer, tokenize
from models.pulid_lightning.recent import Recent
from models.pulid_lightning.sampler import STEPS, BrownianNoise, initial_latents, karras_sigmas, sample
from models.pulid_lightning.sdxl import (
    LATENT_CHANNELS,
    LATENT_SCALE,
    Conditions,
    condition,
    decode_latents,
    denoiser,
    load_tokenizers,
)
from models.pulid_lightning.state_dicts import read_state_dict
from models.pulid_lightning.text_encoder import PromptTokens, encode_prompt, stack_branches
from models.weights.weight_set import WeightSet

Part = TypeVar("Part")

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
        checkpoints: Checkpoints,
        device: torch.device,
        body_share: BodyShare = "comfyui",
    ) -> None:
        """Take what `load` has loaded."""
        self._faces, self._tokenizers, self._identifier = faces, tokenizers, identifier
        self._projections, self._checkpoints, self._device = projections, checkpoints, device
        self._body_share = body_share
        self._found: Recent[FoundFace] = Recent(_REMEMBERED_FACES)
        self._identities: Recent[Identity] = Recent(_REMEMBERED_FACES)

    @property
    def variants(self) -> tuple[str, ...]:
        """The checkpoints that are loaded."""
        return self._checkpoints.names

    def prepare(self, params: Params, images: Mapping[str, bytes]) -> Prepared:
        """Decode the picture, find its largest face, tokenise both prompts.

        A picture that was seen lately is neither decoded nor searched again. Raises `UnreadableImage`, `NoFaceFound`,
        and `InputRefused` for a checkpoint that is not loaded.
        """
        if params.variant not in self.variants:
            raise InputRefused(f"checkpoint_model cannot be served: {params.variant} is not loaded.")
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
        checkpoint = self._checkpoints.take(params.checkpoint_model)
        shape = _latent_shape(params)
        sigmas = karras_sigmas(STEPS)
        latents = initial_latents(shape, params.seed, sigmas[0]).to(self._device)
        denoise = denoiser(checkpoint.unet, self._conditions(prepared, checkpoint))
        noise = BrownianNoise(shape, params.seed, sigmas)
        return decode_latents(checkpoint.vae, sample(denoise, latents, sigmas, noise, on_step))

    def _find(self, file: bytes) -> FoundFace:
        return self._faces.find(to_pixels(decode(file)))

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


def unused_roles(options: LoadOptions) -> set[str]:
    """Roles of the checkpoints that the operator does not want: their files need not be there, nor be sound."""
    wanted = options.checkpoints or Params.variants
    return {role_of(name) for name in Params.variants if name not in wanted}


def load(weights: WeightSet, device: torch.device, options: LoadOptions = DEFAULT_OPTIONS) -> PulidLightning:
    """Load every network onto `device`, the checkpoints last; raises `WeightsError`.

    Noise is drawn on the CPU whatever the options say.
    """

    def part(role: str, load: Callable[[Path], Part]) -> Part:
        return load_part(role, load, weights[role])

    faces = part("face_analysis", FaceFinder)
    parser = part("face_parser", lambda path: load_bisenet(read_state_dict(path), device))
    eva = part("eva_clip", lambda path: load_eva_clip(read_state_dict(path), device))
    encoder, projections = part("pulid_adapter", lambda path: _load_adapter(path, device))
    # Last, for they go by the memory that is left.
    checkpoints = load_checkpoints(weights, _chosen(weights, options), device, options.checkpoint_memory)
    for unet in checkpoints.unets:
        install(unet, set(projections))
    return PulidLightning(
        faces=faces,
        tokenizers=load_tokenizers(weights["sdxl_config"]),
        identifier=Identifier(parser, eva, encoder, device),
        projections=projections,
        checkpoints=checkpoints,
        device=device,
        body_share=options.pulid_body_share,
    )


def _load_adapter(path: Path, device: torch.device) -> tuple[IdentityEncoder, dict[int, Projection]]:
    adapter = read_adapter(path)
    # In the UNet's precision, for the keys and values meet its queries.
    dtype = serving_dtype(device)
    projections = {layer: weight.to(device, dtype) for layer, weight in adapter.projections.items()}
    return load_encoder(adapter.encoder, device), projections


def _chosen(weights: WeightSet, options: LoadOptions) -> Sequence[str]:
    """The checkpoints to load: those that the operator names, else all that there are."""
    if options.checkpoints:
        return options.checkpoints
    if found := [name for name in Params.variants if role_of(name) in weights.paths]:
        return found
    raise WeightsError(f"pulid-lightning needs a role of {', '.join(role_of(name) for name in Params.variants)}.")


def _latent_shape(params: Params) -> tuple[int, int, int, int]:
    width, height = params.output_size
    return params.number_of_images, LATENT_CHANNELS, height // LATENT_SCALE, width // LATENT_SCALE
