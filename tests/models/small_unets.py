"""Narrow UNets of the two kinds, and of the demo weights', with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from diffusers import UNet2DConditionModel

from models.demo import architecture

_COMMON: Final = {
    "block_out_channels": (16, 32, 32),
    "layers_per_block": 2,
    "norm_num_groups": 8,
    "cross_attention_dim": 48,
}


def small_sd15(seed: int = 0) -> Any:
    """As Stable Diffusion 1.5 with a foreground: 8 input channels, attention in all blocks but the innermost."""
    return _frozen(
        seed,
        in_channels=8,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=4,
    )


def small_sdxl(seed: int = 0) -> Any:
    """As SDXL: no attention in the outermost block, linear projections, a second embedding of pooled text and sizes."""
    return _frozen(
        seed,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 1),
        attention_head_dim=(2, 4, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 40,
    )


def demo_sd15(seed: int = 0) -> Any:
    """As the demo weights of ic-light with a foreground: attention innermost only, one residual block a level."""
    return _drawn(seed, lambda: architecture.unet(8))


def _frozen(seed: int, **options: Any) -> Any:
    return _drawn(seed, lambda: UNet2DConditionModel(**_COMMON, **options))


def _drawn(seed: int, build: Callable[[], Any]) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build().eval().requires_grad_(False)
