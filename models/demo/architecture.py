"""The networks of ic-light's demo weights: a Stable Diffusion 1.5 of narrow widths and fewer layers.

Every key that they have is one of the real networks', so the same loaders read them. They differ from the real ones in
widths, in depth, and in where attention is: at the two coarsest of the UNet's resolutions only, since its cost, which
is most of a CPU's time, is quadratic in pixels however narrow the network. Training and building share this module.
"""

from __future__ import annotations

from typing import Any, Final

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from models.demo.tokenizer import MODEL_MAX_LENGTH, vocabulary_size
from models.ic_light.rmbg import BlockWidths, Rmbg, RmbgWidths

_TEXT_WIDTH: Final = 64
MATTING_WIDTHS: Final = RmbgWidths(
    stem=6,
    blocks={
        "stage1": BlockWidths(6, 1, 6),
        "stage2": BlockWidths(6, 6, 8),
        "stage3": BlockWidths(8, 8, 16),
        "stage4": BlockWidths(16, 16, 32),
        "stage5": BlockWidths(32, 16, 48),
        "stage6": BlockWidths(48, 24, 48),
        "stage5d": BlockWidths(96, 24, 32),
        "stage4d": BlockWidths(64, 16, 32),
        "stage3d": BlockWidths(48, 8, 16),
        "stage2d": BlockWidths(24, 6, 8),
        "stage1d": BlockWidths(14, 1, 2),
    },
)


def unet(in_channels: int) -> Any:
    """Make the UNet, 3.7 M parameters; its weights are the random ones of its constructor.

    `in_channels`: 4 of noisy latents; 4 more of the foreground's; 4 more of the background's.
    """
    return UNet2DConditionModel(
        in_channels=in_channels,
        block_out_channels=(64, 64, 96, 96),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        cross_attention_dim=_TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=4,
    )


def vae(scaling_factor: float = 1.0) -> Any:
    """Make the autoencoder; `scaling_factor` brings its latents to a standard deviation a little above 1."""
    return AutoencoderKL(
        block_out_channels=(32, 48, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=1,
        mid_block_add_attention=False,
        latent_channels=4,
        scaling_factor=scaling_factor,
    )


def text_encoder() -> CLIPTextModel:
    """Make the text encoder for the demo tokenizer: tokens [rows, 77] to states [rows, 77, 64]."""
    size = vocabulary_size()
    config = CLIPTextConfig(
        vocab_size=size,
        hidden_size=_TEXT_WIDTH,
        intermediate_size=2 * _TEXT_WIDTH,
        projection_dim=_TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MODEL_MAX_LENGTH,
        hidden_act="quick_gelu",
        bos_token_id=size - 2,
        eos_token_id=size - 1,
        pad_token_id=size - 1,
    )
    return CLIPTextModel(config)


def matting() -> Rmbg:
    """Make the matting network of RMBG-1.4's topology."""
    return Rmbg(MATTING_WIDTHS)
