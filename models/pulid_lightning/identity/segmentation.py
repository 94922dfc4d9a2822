"""Which parts of the face crop the identity is read from (PuLID specification section 2 C)."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torchvision.transforms.functional import normalize

from models.pulid_lightning.identity.bisenet import BiSeNet

BACKGROUND: Final = (0, 7, 8, 9, 14, 15, 16, 18)
"""Classes that are no part of a face: background, ears, earring, neck, necklace, cloth, hat. Hair is one."""
UNKNOWN: Final = -1
"""Label of a pixel for which the parser gave inf or nan."""
_IMAGENET_MEAN: Final = [0.485, 0.456, 0.406]
_IMAGENET_STD: Final = [0.229, 0.224, 0.225]


def parse(parser: BiSeNet, crop: Tensor) -> Tensor:
    """Label every pixel of an RGB crop [1, 3, h, w] in 0..1 with its class or `UNKNOWN`: int64 [1, h, w]."""
    logits: Tensor = parser(normalize(crop, _IMAGENET_MEAN, _IMAGENET_STD))
    return torch.where(logits.isfinite().all(1), logits.argmax(1), UNKNOWN)


def composite(crop: Tensor, labels: Tensor) -> Tensor:
    """The face in grey on white: `crop` [1, 3, h, w] in 0..1, `labels` [1, h, w]; same shape and range as `crop`.

    Pixels of label `UNKNOWN` become nan, so that a parser's fault shows in the result instead of another identity.
    """
    background = torch.isin(labels, torch.tensor(BACKGROUND, device=labels.device))
    shown = torch.where(background[:, None], torch.ones_like(crop), _grey(crop))
    return torch.where(labels[:, None] == UNKNOWN, torch.nan, shown)


def _grey(crop: Tensor) -> Tensor:
    weights = crop.new_tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)
    return (crop * weights).sum(1, keepdim=True).expand_as(crop)
