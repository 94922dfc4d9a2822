"""The stages of `pulid-lightning` in order (PuLID specification section 1)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import torch
from torch import Tensor

from models.errors import InputRefused, WeightsError
from models.execution.runner import EAGER, Execution, Runner, execution_for
from models.images import decode, to_pixels
from models.loading import load_part
from models.pipeline import DEFAULT_OPTIONS, LoadOptions, OnStep, Pipeline, Pixels
from models.pulid_lightning.adapter import Projection, read_adapter
from models.pulid_lightning.attention import METHODS, BodyShare, identity_contexts, layer_numbers
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
from models.pulid_lightning.sampler import (
    STEPS,
    DrawnNoise,
    draw_noise,
    initial_latents,
    karras_sigmas,
    noise_ways,
    sample,
)
from models.pulid_lightning.sdxl import (
    LATENT_CHANNELS,
    LATENT_SCALE,
    Conditions,
    decode_latents,
    decode_picture,
    denoiser,
    load_tokenizers,
    predict_noise,
    time_ids,
    timestep_shifts,
)
from models.pulid_lightning.state_dicts import read_state_dict
from models.pulid_lightning.text_encoder import PromptTokens, TextEmbeddings, encode_prompt, stack_prompts
from models.recent import Recent
from models.unet.conditions import added_embedding, repeat, rows_of_pictures, text_contexts
from models.unet.forward import cross_attentions
from models.weights.weight_set import WeightSet

Part = TypeVar("Part")

_ALWAYS_NEGATIVE: Final = "nsfw, nude, "
_REMEMBERED_FACES: Final = 64
"""How many pictures' faces are kept in memory, a megabyte each."""
_REMEMBERED_PROMPTS: Final = 64
"""How many prompts' embeddings are kept on the device, a third of a megabyte for every 75 tokens."""
_SIGMAS: Final = karras_sigmas(STEPS)
_WAYS: Final = noise_ways(_SIGMAS)


@dataclass(frozen=True)
class Prepared:
    """A request that waits for the device.

    `picture` is the SHA-256 of the caller's file. `latents` [n, 4, h, w] is where sampling starts, `noise` [ways, n, 4,
    h, w] what it adds on its way; both lie in the host's memory.
    """

    params: Params
    picture: str
    face: FoundFace
    prompt: PromptTokens
    negative_prompt: PromptTokens
    latents: Tensor
    noise: Tensor


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
        execution: Execution = EAGER,
    ) -> None:
        """Take what `load` has loaded."""
        self._faces, self._tokenizers, self._identifier = faces, tokenizers, identifier
        self._projections, self._checkpoints, self._device = projections, checkpoints, device
        self._body_share = body_share
        self._found: Recent[FoundFace] = Recent(_REMEMBERED_FACES)
        self._identities: Recent[Identity] = Recent(_REMEMBERED_FACES)
        self._texts: Recent[TextEmbeddings] = Recent(_REMEMBERED_PROMPTS)
        self._predict, self._decode = Runner(predict_noise, execution), Runner(decode_picture, execution)
        self._layers = layer_numbers(checkpoints.unets[0], projections)

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
        shape = _latent_shape(params)
        return Prepared(
            params=params,
            picture=picture,
            face=self._found.get(picture, lambda: self._find(file)),
            prompt=self._tokenize(params.prompt),
            negative_prompt=self._tokenize(_ALWAYS_NEGATIVE + params.negative_prompt),
            latents=initial_latents(shape, params.seed, _SIGMAS[0]),
            noise=draw_noise(shape, params.seed, _SIGMAS),
        )

    def kinship(self, prepared: Prepared) -> Hashable:
        """Checkpoint, size and face style: whatever else is asked for may differ from row to row."""
        params = prepared.params
        return params.checkpoint_model, params.output_size, params.face_style

    @torch.inference_mode()
    def run(self, batch: Sequence[Prepared], on_step: OnStep) -> list[Pixels]:
        """Draw the pictures; `on_step` counts the evaluations of the UNet, seven for all pictures together."""
        checkpoint = self._checkpoints.take(batch[0].params.checkpoint_model)
        latents = torch.cat([prepared.latents for prepared in batch]).to(self._device)
        noise = DrawnNoise(_WAYS, torch.cat([prepared.noise for prepared in batch], 1).to(self._device))
        denoise = denoiser(self._predict, checkpoint.unet, self._conditions(batch, checkpoint))
        pixels = decode_latents(self._decode, checkpoint.vae, sample(denoise, latents, _SIGMAS, noise, on_step))
        return np.split(pixels, list(accumulate(prepared.params.number_of_images for prepared in batch))[:-1])

    def _find(self, file: bytes) -> FoundFace:
        return self._faces.find(to_pixels(decode(file)))

    def _conditions(self, batch: Sequence[Prepared], checkpoint: Checkpoint) -> Conditions:
        unet, params = checkpoint.unet, batch[0].params
        prompts = [self._embed(checkpoint, params.checkpoint_model, tokens) for tokens in _branches(batch)]
        text, bias = stack_prompts(prompts)
        sizes = time_ids(params.output_size, len(prompts), self._device)
        rows = rows_of_pictures([prepared.params.number_of_images for prepared in batch] * 2, self._device)
        added = repeat(added_embedding(unet, text.pooled, sizes), rows)
        contexts = identity_contexts(
            text_contexts(unet, text.tokens, bias, rows),
            [self._identify(prepared) for prepared in batch],
            [self._projections[layer] for layer in self._layers],
            [layer.heads for layer in cross_attentions(unet)],
            replace(METHODS[params.face_style], body_share=self._body_share),
            rows,
        )
        return Conditions(contexts, timestep_shifts(unet, _SIGMAS, added))

    def _identify(self, prepared: Prepared) -> Identity:
        return self._identities.get(prepared.picture, lambda: self._identifier.identify(prepared.face))

    def _embed(self, checkpoint: Checkpoint, name: str, tokens: PromptTokens) -> TextEmbeddings:
        return self._texts.get(f"{name} {tokens}", lambda: encode_prompt(tokens, checkpoint.clip_l, checkpoint.clip_g))

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
    return PulidLightning(
        faces=faces,
        tokenizers=load_tokenizers(weights["sdxl_config"]),
        identifier=Identifier(parser, eva, encoder, device),
        projections=projections,
        checkpoints=checkpoints,
        device=device,
        body_share=options.pulid_body_share,
        execution=execution_for(device, options.compile),
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


def _branches(batch: Sequence[Prepared]) -> Iterator[PromptTokens]:
    """The negative prompts of all requests, then the others: the order of the UNet's rows."""
    yield from (prepared.negative_prompt for prepared in batch)
    yield from (prepared.prompt for prepared in batch)


def _latent_shape(params: Params) -> tuple[int, int, int, int]:
    width, height = params.output_size
    return params.number_of_images, LATENT_CHANNELS, height // LATENT_SCALE, width // LATENT_SCALE
