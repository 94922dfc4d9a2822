"""From a face crop to ID tokens: segmentation, EVA-CLIP, encoder (PuLID specification sections 2 C to 4)."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torchvision.transforms.functional import normalize

from models.errors import WeightsError
from models.imaging.types import Rgb
from models.pulid_lightning.identity.bisenet import BiSeNet
from models.pulid_lightning.identity.encoder import (
    Identity,
    IdentityEncoder,
    id_condition,
    load_id_encoder,
    load_id_former,
)
from models.pulid_lightning.identity.eva_clip import EvaClip, normalised
from models.pulid_lightning.identity.face import EMBEDDING, FoundFace
from models.runtime.state_dicts import StateDict

BACKGROUND: Final = (0, 7, 8, 9, 14, 15, 16, 18)
"""Classes that are no part of a face: background, ears, earring, neck, necklace, cloth, hat. Hair is one."""
UNKNOWN: Final = -1
"""Label of a pixel for which the parser gave inf or nan."""
_IMAGENET_MEAN: Final = [0.485, 0.456, 0.406]
_IMAGENET_STD: Final = [0.229, 0.224, 0.225]


class IdentityExtractor:
    """The networks that compute ID tokens of a face, on one device; the tokens are float32."""

    def __init__(self, parser: BiSeNet, eva: EvaClip, encoder: IdentityEncoder, device: torch.device) -> None:
        """Wrap loaded networks, all on `device`."""
        self._parser, self._eva, self._encoder, self._device = parser, eva, encoder, device
        self._uncond = self._unconditional()

    @torch.inference_mode()
    def extract(self, face: FoundFace) -> Identity:
        """ID tokens of `face`, conditional and unconditional."""
        crop = _to_tensor(face.crop).to(self._device)
        features = self._eva.encode(self._eva.preprocess(composite(crop, parse(self._parser, crop))))
        embedding = torch.from_numpy(face.embedding)[None].to(self._device)
        id_cond = id_condition(embedding, normalised(features.embedding.float()))
        return Identity(cond=self._encode(id_cond, features.hidden), uncond=self._uncond)

    @torch.inference_mode()
    def _unconditional(self) -> Tensor:
        # The encoder's output for zeros: the same for every face, and not zero.
        return self._encode(*self._encoder.zeros(self._eva.tokens, self._device))

    def _encode(self, id_cond: Tensor, hidden: list[Tensor]) -> Tensor:
        dtype = self._encoder.dtype
        tokens: Tensor = self._encoder(id_cond.to(dtype), [states.to(dtype) for states in hidden])
        return tokens.float()


def load_encoder(state: StateDict, device: torch.device) -> IdentityEncoder:
    """Build the adapter's encoder, of version 1 or 1.1; raises `WeightsError`."""
    return load_id_former(state, device) if "latents" in state else load_id_encoder(state, device)


def check_widths(encoder: IdentityEncoder, eva: EvaClip) -> None:
    """Raise `WeightsError` unless the encoder reads what the face recogniser and the vision tower give."""
    classes, width = eva.widths
    if (encoder.id_width, encoder.hidden) != (EMBEDDING + classes, width):
        raise WeightsError(
            f"the identity encoder reads {encoder.id_width} and {encoder.hidden} numbers, "
            f"and the vision tower gives {EMBEDDING} + {classes} and {width}."
        )


def _to_tensor(crop: Rgb) -> Tensor:
    return torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255


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
