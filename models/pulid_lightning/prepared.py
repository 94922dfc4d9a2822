"""A request of `pulid-lightning` that waits for the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from torch import Tensor

from models.pulid_lightning.identity.face import FoundFace
from models.pulid_lightning.params import Params
from models.pulid_lightning.sampler import STEPS, draw_noise, initial_latents, karras_sigmas, noise_ways
from models.pulid_lightning.sdxl import LATENT_CHANNELS, LATENT_SCALE
from models.pulid_lightning.text_encoder import PromptTokens

SIGMAS: Final = karras_sigmas(STEPS)
WAYS: Final = noise_ways(SIGMAS)
"""The ways between sigmas for which noise is drawn."""


@dataclass(frozen=True)
class Prepared:
    """A request as far as the CPU can bring it.

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


def draw(params: Params) -> tuple[Tensor, Tensor]:
    """A request's `latents` and `noise`."""
    width, height = params.output_size
    shape = params.number_of_images, LATENT_CHANNELS, height // LATENT_SCALE, width // LATENT_SCALE
    return initial_latents(shape, params.seed, SIGMAS[0]), draw_noise(shape, params.seed, SIGMAS)
