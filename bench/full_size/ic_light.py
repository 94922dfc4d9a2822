"""The networks at the sizes of the published files, untrained (IC-Light specification sections 2 and 7).

For what needs no weights: checks of structure, counts of work, timings. Networks are made on torch's default device;
on the meta device they cost neither time nor memory. The base model's own configuration counts when weights are there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from models.ic_light.networks import FOREGROUND_CHANNELS
from models.ic_light.rmbg import BlockWidths, Rmbg, RmbgWidths

SD15: Final = Path(__file__).with_name("configs") / "sd15"
"""The sizes of Stable Diffusion 1.5's networks, in diffusers' layout."""

RMBG: Final = RmbgWidths(
    stem=64,
    blocks={
        "stage1": BlockWidths(64, 32, 64),
        "stage2": BlockWidths(64, 32, 128),
        "stage3": BlockWidths(128, 64, 256),
        "stage4": BlockWidths(256, 128, 512),
        "stage5": BlockWidths(512, 256, 512),
        "stage6": BlockWidths(512, 256, 512),
        "stage5d": BlockWidths(1024, 256, 512),
        "stage4d": BlockWidths(1024, 128, 256),
        "stage3d": BlockWidths(512, 64, 128),
        "stage2d": BlockWidths(256, 32, 64),
        "stage1d": BlockWidths(128, 16, 64),
    },
)
"""The widths of RMBG-1.4."""


def unet(channels: int = FOREGROUND_CHANNELS) -> Any:
    """Stable Diffusion 1.5's UNet with `channels` inputs; 859,532,484 parameters if these are 8."""
    config = {**UNet2DConditionModel.load_config(SD15 / "unet"), "in_channels": channels}
    return _frozen(UNet2DConditionModel.from_config(config))


def vae() -> Any:
    """Stable Diffusion 1.5's autoencoder, 83,653,863 parameters."""
    return _frozen(AutoencoderKL.from_config(AutoencoderKL.load_config(SD15 / "vae")))


def text_encoder() -> Any:
    """CLIP-L's text encoder, 123,060,480 parameters."""
    return _frozen(CLIPTextModel(CLIPTextConfig.from_pretrained(SD15 / "text_encoder")))


def rmbg() -> Rmbg:
    """RMBG-1.4's network, 44,046,790 parameters."""
    network: Rmbg = _frozen(Rmbg(RMBG))
    return network


def _frozen(network: Any) -> Any:
    return network.eval().requires_grad_(False)
