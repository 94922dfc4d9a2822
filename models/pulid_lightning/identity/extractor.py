"""From a face crop to ID tokens: segmentation, EVA-CLIP, encoder (PuLID specification sections 2 C to 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from models.errors import WeightsError
from models.pulid_lightning.identity.bisenet import BiSeNet
from models.pulid_lightning.identity.encoder import Identity, IdentityEncoder, id_condition, load_id_encoder
from models.pulid_lightning.identity.eva_clip import EvaClip, normalised
from models.pulid_lightning.identity.face import EMBEDDING, FoundFace, Rgb
from models.pulid_lightning.identity.id_former import load_id_former
from models.pulid_lightning.identity.segmentation import composite, parse
from models.runtime.state_dicts import StateDict


class IdentityExtractor:
    """The networks that compute ID tokens of a face, in float32 on one device."""

    def __init__(self, parser: BiSeNet, eva: EvaClip, encoder: IdentityEncoder, device: torch.device) -> None:
        """Wrap loaded networks, all on `device`."""
        self._parser, self._eva, self._encoder, self._device = parser, eva, encoder, device
        self._uncond = self._unconditional()

    @torch.inference_mode()
    def extract(self, face: FoundFace) -> Identity:
        """ID tokens of `face`, conditional and unconditional."""
        crop = _to_tensor(face.crop).to(self._device)
        seen = self._eva.see(self._eva.preprocess(composite(crop, parse(self._parser, crop))))
        embedding = torch.from_numpy(face.embedding)[None].to(self._device)
        id_cond = id_condition(embedding, normalised(seen.embedding))
        return Identity(cond=self._encoder(id_cond, seen.hidden), uncond=self._uncond)

    @torch.inference_mode()
    def _unconditional(self) -> Tensor:
        # The encoder's output for zeros: the same for every face, and not zero.
        tokens: Tensor = self._encoder(*self._encoder.zeros(self._eva.tokens, self._device))
        return tokens


def load_encoder(state: StateDict, device: torch.device) -> IdentityEncoder:
    """Build the adapter's encoder, of version 1 or 1.1, in float32; raises `WeightsError`."""
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
