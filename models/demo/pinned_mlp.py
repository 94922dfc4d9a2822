"""Perceptrons of the identity encoder's form whose layer norms change nothing, so that weights can be written down.

A norm takes off the mean of all units and divides by their standard deviation. Here units of equal share cancel the
mean of the others, and pairs of large constants, plus and minus, are nearly all of the deviation, which the norm's
scale multiplies back.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

_PIN: Final = 4096.0
_PINNED_SHARE: Final = 16
"""Of so many units one is a constant."""
_SCALE: Final = _PIN / _PINNED_SHARE**0.5
"""The standard deviation: a power of 2, which half precision has exactly. Units are to be small against it."""
_CANCELLING: Final = 8
"""Units that cancel the mean: a power of 2, for the same reason."""


class PinnedMlp:
    """Weights of linear layers, [units, inputs], around two norms with leaky rectifiers; all are 0 at first.

    Free are the first `width` x 15/16 - 8 units, of which the weights are to be set: `first` with its bias, `second`,
    and `last` with its bias.
    """

    def __init__(self, c_in: int, width: int, c_out: int) -> None:
        """Make the layers c_in -> width -> width -> c_out; `width` is a multiple of 32."""
        self.first, self.first_bias = torch.zeros(width, c_in), torch.zeros(width)
        self.second = torch.zeros(width, width)
        self.last, self.last_bias = torch.zeros(c_out, width), torch.zeros(c_out)

    def state(self) -> dict[str, Tensor]:
        """The state dict of `models.pulid_lightning.identity.encoder.mlp`, in float32."""
        scale, shift = torch.full_like(self.first_bias, _SCALE), torch.zeros_like(self.first_bias)
        layers = [
            (*_pinned(self.first, self.first_bias), scale, shift),
            (*_pinned(self.second, shift), scale, shift),
            (self.last, self.last_bias),
        ]
        parts = [tensor for layer in layers for tensor in layer]
        names = [f"{number}.{part}" for number in (0, 1, 3, 4, 6) for part in ("weight", "bias")]
        return dict(zip(names, parts, strict=True))


def _pinned(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Add the units that keep mean and deviation to a layer, as its last."""
    weight, bias = weight.clone(), bias.clone()
    constants = len(bias) // _PINNED_SHARE
    cancelling = slice(len(bias) - constants - _CANCELLING, len(bias) - constants)
    weight[cancelling] = -weight.sum(0) / _CANCELLING
    bias[cancelling] = -bias.sum() / _CANCELLING
    bias[cancelling.stop :: 2], bias[cancelling.stop + 1 :: 2] = _PIN, -_PIN
    return weight, bias
