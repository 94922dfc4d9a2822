"""Pictures to latents and back (IC-Light specification section 5).

Encoding divides by 127, decoding multiplies by 127.5: the reference's asymmetry, to which the weights were trained.
Pictures pass one at a time, which bounds the memory and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.ic_light.subject import GREY, Rgb
from models.pipeline import Pixels


def normalise(picture: Rgb) -> Tensor:
    """Map levels 0..255 to float32 -1..1.008, [1, 3, height, width]; grey 127 becomes exactly 0."""
    return torch.tensor(picture).movedim(-1, 0)[None].to(torch.float32) / GREY - 1


def encode(vae: Any, pictures: Sequence[Rgb] | Pixels) -> Tensor:
    """Encode pictures of one size to the mode of their posteriors, scaled: [n, 4, height / 8, width / 8]."""
    # The mode instead of a sample: encoding leaves the request's random numbers alone.
    rows = [vae.encode(normalise(picture).to(vae.device, vae.dtype)).latent_dist.mode() for picture in pictures]
    return torch.cat(rows) * float(vae.config.scaling_factor)


def decode(vae: Any, latents: Tensor) -> Pixels:
    """Decode scaled latents [n, 4, h, w] to pictures [n, 8 h, 8 w, 3]."""
    rows = (latents / float(vae.config.scaling_factor)).to(vae.dtype)
    return np.concatenate([quantise(vae.decode(row[None]).sample) for row in rows])


def quantise(y: Tensor) -> Pixels:
    """Map the decoder's [n, 3, h, w] in -1..1 to 8-bit levels [n, h, w, 3], truncating."""
    # In bfloat16 the product would keep 8 bits of mantissa, less than the levels need.
    levels = y.to(torch.float32) * 127.5 + 127.5
    return np.asarray(levels.clip(0, 255).to(torch.uint8).movedim(1, -1).cpu().numpy())
