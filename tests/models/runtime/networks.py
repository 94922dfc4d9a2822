"""Two small networks: one of a few operations, and Stable Diffusion's UNets in miniature."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch._dynamo.utils import counters

from models.runtime.tree import Pytree
from models.runtime.unet import added_embedding, attend_to_text, evaluate, text_contexts, time_shifts

_COMMON = {"sample_size": 16, "norm_num_groups": 4, "cross_attention_dim": 24, "out_channels": 4}


class Pair(NamedTuple):
    """A factor, and what is added where there is something."""

    factor: Tensor
    term: Tensor | None


class Little(nn.Module):
    """A convolution and a linear layer."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.convolution, self.linear = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(6, 4)


def blend(network: Little, picture: Tensor, pairs: tuple[Pair, ...]) -> tuple[Tensor, Tensor]:
    """A picture [rows, 4, h, w] shifted by texts [rows, tokens, 6]; and the shift."""
    shift = torch.zeros_like(picture[:, :, 0, 0])
    for pair in pairs:
        shift = shift + network.linear(pair.factor).mean(1)
        shift = shift if pair.term is None else shift + pair.term
    return F.silu(network.convolution(picture)) + shift[:, :, None, None], shift


def little_inputs(rows: int = 2, height: int = 5, width: int = 7, tokens: int = 3) -> tuple[Tensor, tuple[Pair, ...]]:
    """Inputs of `blend`."""
    pairs = (Pair(torch.randn(rows, tokens, 6), None), Pair(torch.randn(rows, tokens, 6), torch.randn(rows, 4)))
    return torch.randn(rows, 4, height, width), pairs


def sdxl() -> Any:
    """SDXL's UNet with few and narrow layers."""
    return UNet2DConditionModel(
        **_COMMON,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 16,
    ).eval()


def sd15() -> Any:
    """IC-Light's UNet with few and narrow layers."""
    return UNet2DConditionModel(
        **_COMMON,
        in_channels=8,
        layers_per_block=1,
        block_out_channels=(8, 16, 16),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=4,
    ).eval()


def predict(unet: Any, latents: Tensor, shift: Tensor, contexts: tuple[Pytree, ...]) -> Tensor:
    """One evaluation with text alone."""
    return evaluate(unet, latents, shift, contexts, attend_to_text)


@torch.inference_mode()
def unet_inputs(
    unet: Any, rows: int, height: int, width: int, tokens: int
) -> tuple[Tensor, Tensor, tuple[Pytree, ...]]:
    """Inputs of `predict`."""
    added = None
    if unet.config.addition_embed_type is not None:
        added = added_embedding(unet, torch.randn(rows, 16), torch.ones(rows, 6))
    shift = time_shifts(unet, torch.tensor([torch.randint(1000, ())]), added)[0]
    latents = torch.randn(rows, unet.config.in_channels, height, width)
    return latents, shift, text_contexts(unet, torch.randn(rows, tokens, 24))


def graphs() -> int:
    """How many graphs were compiled since the test began."""
    return counters["stats"]["unique_graphs"]
