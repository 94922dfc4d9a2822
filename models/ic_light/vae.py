"""Pictures to latents and back (IC-Light specification section 5).

Encoding divides by 127, decoding multiplies by 127.5: the reference's asymmetry, to which the weights were trained.
What is not shown to the UNet together goes one picture at a time: that bounds the memory and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from models.ic_light.conditioning import GREY
from models.outcomes import Decoded, joined, non_finite

Encode = Callable[[Any, Tensor], Tensor]
"""A VAE and pictures give their latents."""
Decode = Callable[[Any, Tensor], Decoded]
"""A VAE and the latents of a picture give the picture."""
DECODED_SCALE: Final = 127.5
DECODED_SHIFT: Final = 127.5


def normalise(pictures: Tensor) -> Tensor:
    """Map levels 0..255 of [n, height, width, 3] to float32 -1..1.008, [n, 3, height, width]; 127 becomes exactly 0."""
    # The channels stay innermost in memory, as in the reference: it settles the order in which convolutions add up.
    return (pictures.to(torch.float32) / GREY - 1).movedim(-1, 1)


def encode_pictures(vae: Any, pictures: Tensor) -> Tensor:
    """Encode pictures [n, height, width, 3] of 8 bits to latents [n, 4, height / 8, width / 8]; an `Encode`."""
    # The mode of the posterior instead of a sample: encoding leaves the request's random numbers alone.
    mode = vae.quant_conv(vae.encoder(normalise(pictures).to(vae.dtype))).chunk(2, 1)[0]
    scaled: Tensor = mode * vae.config.scaling_factor
    return scaled


def decode_picture(vae: Any, latents: Tensor) -> Decoded:
    """Decode latents [1, 4, h, w] to a picture [1, 8 h, 8 w, 3] of 8 bits; a `Decode`."""
    decoded: Tensor = vae.decoder(vae.post_quant_conv((latents / vae.config.scaling_factor).to(vae.dtype)))
    return Decoded(quantise(decoded), non_finite(latents, decoded))


def encode(run: Encode, vae: Any, pictures: Sequence[Tensor]) -> Tensor:
    """Encode pictures of one size, [height, width, 3] of 8 bits on the VAE's device: [n, 4, height / 8, width / 8]."""
    return torch.cat([run(vae, picture[None]) for picture in pictures])


def decode(run: Decode, vae: Any, latents: Tensor) -> Decoded:
    """Decode latents [n, 4, h, w] to pictures [n, 8 h, 8 w, 3] of 8 bits, which stay on the device."""
    return joined([run(vae, row) for row in torch.split(latents, 1)])


def quantise(y: Tensor) -> Tensor:
    """Map the decoder's [n, 3, h, w] in -1..1 to 8-bit levels [n, h, w, 3], truncating."""
    # In bfloat16 the product would keep 8 bits of mantissa, less than the levels need.
    levels = y.to(torch.float32) * DECODED_SCALE + DECODED_SHIFT
    return levels.clip(0, 255).to(torch.uint8).movedim(1, -1)
