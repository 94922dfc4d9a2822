"""A Stable Diffusion 1.5 of narrow widths, in the real folder layout and with the real keys.

One setting differs from the real topology: at full latent resolution attention looks at the text only. Self-attention
there costs most of a CPU's time, since it is quadratic in pixels however narrow the network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from models.demo_weights.random_weights import random_state, randomise
from models.demo_weights.tokenizer import vocabulary_size, write_tokenizer

_SEED: Final = 15
_TEXT_WIDTH: Final = 32


def write_sd15(folder: Path) -> None:
    """Write tokenizer, text encoder, UNet and VAE into a new `folder`."""
    write_tokenizer(folder / "tokenizer")
    _write_text_encoder(folder / "text_encoder")
    for name, network in (("unet", narrow_unet(in_channels=4)), ("vae", _vae())):
        randomise(network, _SEED)
        network.save_pretrained(folder / name)


def narrow_unet(in_channels: int) -> Any:
    """Make the UNet with its 686 keys; its weights are whatever its constructor draws."""
    return UNet2DConditionModel(
        in_channels=in_channels,
        block_out_channels=(16, 24, 32, 32),
        cross_attention_dim=_TEXT_WIDTH,
        attention_head_dim=1,
        norm_num_groups=8,
        only_cross_attention=(True, False, False, False),
    )


def _write_text_encoder(folder: Path) -> None:
    size = vocabulary_size()
    config = CLIPTextConfig(
        vocab_size=size,
        hidden_size=_TEXT_WIDTH,
        intermediate_size=2 * _TEXT_WIDTH,
        projection_dim=_TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        hidden_act="quick_gelu",
        bos_token_id=size - 2,
        eos_token_id=size - 1,
        pad_token_id=size - 1,
    )
    config.save_pretrained(folder)
    # The published files have this prefix, which the library no longer writes.
    state = {f"text_model.{key}": value for key, value in CLIPTextModel(config).state_dict().items()}
    save_file(random_state(state, _SEED), folder / "model.safetensors", {"format": "pt"})


def _vae() -> Any:
    return AutoencoderKL(
        block_out_channels=(8, 12, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        norm_num_groups=4,
        scaling_factor=0.18215,
    )
