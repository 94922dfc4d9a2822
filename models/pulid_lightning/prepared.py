"""A prepared request of `pulid-lightning`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from torch import Tensor

from models.pulid_lightning.identity.face import FoundFace
from models.pulid_lightning.params import Params
from models.pulid_lightning.sampler import STEPS, initial_latents, karras_sigmas, precompute_noise, sigma_steps
from models.pulid_lightning.sdxl import LATENT_CHANNELS, LATENT_SCALE
from models.pulid_lightning.text_encoder import PromptTokens

SIGMAS: Final = karras_sigmas(STEPS)
SIGMA_STEPS: Final = sigma_steps(SIGMAS)
"""The steps that add noise."""


@dataclass(frozen=True)
class Prepared:
    """Everything that the CPU computes for a request.

    `image_hash`: SHA-256 of the uploaded file, in hex. `latents` [n, 4, h, w]: start noise. `noise` [steps, n, 4, h,
    w]: noise of the ancestral steps, as `precompute_noise` returns it. Both are in host memory.
    """

    params: Params
    image_hash: str
    face: FoundFace
    prompt: PromptTokens
    negative_prompt: PromptTokens
    latents: Tensor
    noise: Tensor


def sample_noise(params: Params) -> tuple[Tensor, Tensor]:
    """`latents` and `noise` of a `Prepared`."""
    width, height = params.output_size
    shape = params.number_of_images, LATENT_CHANNELS, height // LATENT_SCALE, width // LATENT_SCALE
    return initial_latents(shape, params.seed, SIGMAS[0]), precompute_noise(shape, params.seed, SIGMAS)
