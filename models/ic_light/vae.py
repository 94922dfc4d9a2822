"""Pictures to latents and back (IC-Light specification section 5).

Encoding divides by 127, decoding multiplies by 127.5: the reference's asymmetry, to which the weights were trained.
Decoding takes one picture at a time and encoding a bounded number: that limits the memory and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from models.ic_light.batches import pictures_together
from models.ic_light.subject import GREY, Rgb
from models.pipeline import Pixels

DECODED_SCALE: Final = 127.5
DECODED_SHIFT: Final = 127.5


def normalise(pictures: Pixels) -> Tensor:
    """Map levels 0..255 of [n, height, width, 3] to float32 -1..1.008, [n, 3, height, width]; 127 becomes exactly 0."""
    # The channels stay innermost in memory, as in the reference: it settles the order in which convolutions add up.
    return (torch.tensor(pictures).to(torch.float32) / GREY - 1).movedim(-1, 1)


def encode(vae: Any, pictures: Sequence[Rgb]) -> Tensor:
    """Encode pictures of one size to the mode of their posteriors, scaled: [n, 4, height / 8, width / 8]."""
    # The mode instead of a sample: encoding leaves the request's random numbers alone.
    together = pictures_together(*pictures[0].shape[:2])
    batches = (np.stack(pictures[at : at + together]) for at in range(0, len(pictures), together))
    latents = [vae.encode(normalise(batch).to(vae.device, vae.dtype)).latent_dist.mode() for batch in batches]
    return torch.cat(latents) * float(vae.config.scaling_factor)


def decode(vae: Any, latents: Tensor) -> Pixels:
    """Decode scaled latents [n, 4, h, w] to pictures [n, 8 h, 8 w, 3]."""
    rows = (latents / float(vae.config.scaling_factor)).to(vae.dtype)
    return np.concatenate([quantise(vae.decode(row).sample) for row in torch.split(rows, 1)])


def quantise(y: Tensor) -> Pixels:
    """Map the decoder's [n, 3, h, w] in -1..1 to 8-bit levels [n, h, w, 3], truncating."""
    # In bfloat16 the product would keep 8 bits of mantissa, less than the levels need.
    levels = y.to(torch.float32) * DECODED_SCALE + DECODED_SHIFT
    return np.asarray(levels.clip(0, 255).to(torch.uint8).movedim(1, -1).cpu().numpy())
