"""VAE encoding and decoding (IC-Light specification section 5).

Encoding divides by 127, decoding multiplies by 127.5: the reference's asymmetry, which the weights were trained with.
Images are encoded and decoded one by one, which bounds the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from models.ic_light.conditioning import GREY
from models.outcomes import Decoded, concatenate, non_finite

Encode = Callable[[Any, Tensor], Tensor]
"""(VAE, images) -> latents; `encode_pictures`, compiled or not."""
Decode = Callable[[Any, Tensor], Decoded]
"""(VAE, latents of one image) -> the image; `decode_picture`, compiled or not."""
LATENT_CHANNELS: Final = 4
LATENT_SCALE: Final = 8
"""Pixels per latent along each side."""
DECODED_SCALE: Final = 127.5
DECODED_SHIFT: Final = 127.5


def normalise(pictures: Tensor) -> Tensor:
    """uint8 [n, height, width, 3] to float32 [n, 3, height, width] in -1..1.008; 127 maps to exactly 0."""
    # Channels-last in memory, as in the reference: it determines the summation order of convolutions.
    return (pictures.to(torch.float32) / GREY - 1).movedim(-1, 1)


def encode_pictures(vae: Any, pictures: Tensor) -> Tensor:
    """Encode uint8 images [n, height, width, 3] to latents [n, 4, height / 8, width / 8]; an `Encode`."""
    # The mode of the posterior, not a sample: encoding uses no random numbers.
    mode = vae.quant_conv(vae.encoder(normalise(pictures).to(vae.dtype))).chunk(2, 1)[0]
    scaled: Tensor = mode * vae.config.scaling_factor
    return scaled


def decode_picture(vae: Any, latents: Tensor) -> Decoded:
    """Decode latents [1, 4, h, w] to a uint8 image [1, 8 h, 8 w, 3]; a `Decode`."""
    decoded: Tensor = vae.decoder(vae.post_quant_conv((latents / vae.config.scaling_factor).to(vae.dtype)))
    return Decoded(quantise(decoded), non_finite(latents, decoded))


def encode(run: Encode, vae: Any, pictures: Sequence[Tensor]) -> Tensor:
    """Encode uint8 images [height, width, 3] of one size, on the VAE's device: [n, 4, height / 8, width / 8]."""
    return torch.cat([run(vae, picture[None]) for picture in pictures])


def decode(run: Decode, vae: Any, latents: Tensor) -> Decoded:
    """Decode latents [n, 4, h, w] to uint8 images [n, 8 h, 8 w, 3] on the device."""
    return concatenate([run(vae, row) for row in torch.split(latents, 1)])


def quantise(y: Tensor) -> Tensor:
    """Decoder output [n, 3, h, w] in -1..1 to uint8 [n, h, w, 3], truncated."""
    # bfloat16 has 8 bits of mantissa, too few for 256 levels.
    levels = y.to(torch.float32) * DECODED_SCALE + DECODED_SHIFT
    return levels.clip(0, 255).to(torch.uint8).movedim(1, -1)
