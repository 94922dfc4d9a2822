"""The networks at the sizes of the published files, untrained (PuLID specification sections 2 to 4).

For what needs no weights: checks of structure, counts of work, timings. Networks are made on torch's default device;
on the meta device they cost neither time nor memory.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from timm.models.eva import Eva
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from models.pulid_lightning.adapter import Projection
from models.pulid_lightning.identity.bisenet import BiSeNet
from models.pulid_lightning.identity.encoder import IDEncoder
from models.pulid_lightning.identity.eva_clip import build_tower
from models.pulid_lightning.single_file import SDXL

ID_WIDTH: Final = 1280
"""Width of the identity encoder's condition: 512 of ArcFace, 768 of the vision tower's class embedding."""
HIDDEN: Final = 1024
CONTEXT: Final = 2048
"""Width of text and ID tokens."""


def unet() -> Any:
    """SDXL's UNet, 2,567,463,684 parameters."""
    return _frozen(UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(SDXL / "unet")))


def vae() -> Any:
    """SDXL's autoencoder, 83,653,863 parameters."""
    return _frozen(AutoencoderKL.from_config(AutoencoderKL.load_config(SDXL / "vae")))


def clip_l() -> Any:
    """SDXL's first text encoder, 123,060,480 parameters."""
    return _frozen(CLIPTextModel(CLIPTextConfig.from_pretrained(SDXL / "text_encoder")))


def clip_g() -> Any:
    """SDXL's second text encoder, with its projection; 694,659,840 parameters."""
    return _frozen(CLIPTextModelWithProjection(CLIPTextConfig.from_pretrained(SDXL / "text_encoder_2")))


def projections(network: Any) -> dict[int, Projection]:
    """The adapter's key and value weights for every cross-attention of a UNet, not initialised."""
    widths = {
        index: network.get_submodule(name.removesuffix(".processor")).inner_dim
        for index, name in enumerate(network.attn_processors)
        if name.endswith("attn2.processor")
    }
    return {
        index: Projection(torch.empty(width, CONTEXT), torch.empty(width, CONTEXT)) for index, width in widths.items()
    }


def id_encoder() -> IDEncoder:
    """PuLID version 1's identity encoder, 54,886,400 parameters."""
    encoder: IDEncoder = _frozen(IDEncoder(ID_WIDTH, (HIDDEN, HIDDEN), HIDDEN, CONTEXT))
    return encoder


def vision_tower() -> Eva:
    """EVA02-CLIP-L's vision tower at 336 px."""
    tower: Eva = _frozen(build_tower(classes=768, width=HIDDEN, depth=24, heads=16, mlp_width=2730, patch=14, grid=24))
    return tower


def face_parser() -> BiSeNet:
    """BiSeNet for the 19 classes of a face."""
    widths = [64, 64, 128, 256, 512]
    parser: BiSeNet = _frozen(BiSeNet(widths, context=128, fused=256, gate=64, head=256, classes=19))
    return parser


def _frozen(network: Any) -> Any:
    return network.eval().requires_grad_(False)
