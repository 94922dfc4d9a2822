"""Levels to latents and back."""

from __future__ import annotations

import numpy as np
import torch

from models.ic_light import vae
from models.ic_light.networks import Networks


def test_normalisation_divides_by_127():
    levels = np.array([[[0, 127, 254], [255, 63, 1]]], dtype=np.uint8)
    x = vae.normalise(torch.tensor(levels)[None])
    assert x.shape == (1, 3, 1, 2)
    assert x[0, :, 0, 0].tolist() == [-1, 0, 1]
    assert x[0, 0, 0, 1].item() == torch.tensor(255 / 127 - 1).item()


def test_quantisation_multiplies_by_127_5_truncates_and_clips():
    y = torch.tensor([-2.0, -1.0, 0.0, 0.0039, 0.999, 1.0, 2.0]).view(1, 1, 1, 7).expand(1, 3, 1, 7)
    assert vae.quantise(y)[0, 0, :, 0].tolist() == [0, 0, 127, 127, 254, 255, 255]


@torch.inference_mode()
def test_encoding_gives_the_scaled_mean_of_the_posterior(networks: Networks, noise: torch.Tensor):
    picture = noise[:64, :80]
    latents = vae.encode(vae.encode_pictures, networks.vae, [picture, 255 - picture])
    assert latents.shape == (2, 4, 8, 10)
    posterior = networks.vae.encode(vae.normalise(picture[None])).latent_dist
    assert torch.allclose(latents[:1], posterior.mean * networks.vae.config.scaling_factor, atol=1e-6)
    assert not torch.equal(latents[0], latents[1])


@torch.inference_mode()
def test_decoding_undoes_the_scale_picture_by_picture(networks: Networks):
    latents = torch.randn(2, 4, 8, 10, generator=torch.Generator().manual_seed(0))
    pixels = vae.decode(vae.decode_picture, networks.vae, latents).pictures
    assert pixels.shape == (2, 64, 80, 3)
    assert pixels.dtype == torch.uint8
    together = vae.quantise(networks.vae.decode(latents / networks.vae.config.scaling_factor).sample)
    assert (pixels.int() - together.int()).abs().max() <= 1
