"""The VAE's attention in chunks, against torch's own and within diffusers' VAE."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models.runtime.compiler import Compiler
from models.runtime.runner import Execution, Runner
from models.runtime.vae_attention import ChunkedAttention, attend_in_chunks, vae_for_device
from tests.models.runtime.networks import graphs


@pytest.fixture
def vae() -> Any:
    torch.manual_seed(0)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        latent_channels=4,
    )
    return vae.eval().requires_grad_(False)


class Largest(TorchDispatchMode):
    """Notes how many elements the largest result of an operator has."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.elements = max(self.elements, *(tensor.numel() for tensor in tree_leaves(result)))
        return result


def attend(vae: Any, x: Tensor) -> Tensor:
    """The decoder's attention alone."""
    attended: Tensor = vae.decoder.mid_block.attentions[0](x)
    return attended


@pytest.mark.parametrize("max_scores", [1, 70, 2 * 5 * 35, 2**20])
def test_chunks_of_any_size_give_what_fused_attention_gives(max_scores: int) -> None:
    query, key, value = torch.randn(3, 2, 35, 16)
    found = attend_in_chunks(query, key, value, max_scores)
    expected = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0]
    torch.testing.assert_close(found, expected)


def test_scores_of_half_precision_are_in_float32() -> None:
    query, key, value = torch.randn(3, 1, 50, 16).bfloat16()
    expected = F.scaled_dot_product_attention(*(x.double()[:, None] for x in (4 * query, 4 * key, value)))[:, 0]
    found = attend_in_chunks(4 * query, 4 * key, value, 2**20)
    assert found.dtype == torch.bfloat16
    # The weights and the result are rounded to 8 bits, the scores, of which some are above 60, are not.
    torch.testing.assert_close(found.double(), expected, atol=0.02, rtol=0)


def test_no_more_scores_than_allowed_are_in_memory() -> None:
    query, key, value = torch.randn(3, 1, 400, 4)
    with Largest() as largest:
        attend_in_chunks(query, key, value, 4000)
    assert 4000 - 400 < largest.elements <= 4000


def test_a_vae_computes_the_same_with_it(vae: Any) -> None:
    latents, picture = torch.randn(2, 4, 6, 9), torch.randn(2, 3, 12, 18)
    with torch.inference_mode():
        expected = vae.decoder(latents), vae.encoder(picture)
        vae.set_attn_processor(ChunkedAttention(100))
        found = vae.decoder(latents), vae.encoder(picture)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_one_graph_serves_all_numbers_of_chunks(vae: Any) -> None:
    vae.set_attn_processor(ChunkedAttention(1000))
    runner = Runner(attend, Execution(Compiler("aot_eager"), stance="fail_on_recompile"))
    runner.compile(vae, [torch.randn(1, 16, 5, 7)], [torch.randn(1, 16, 6, 8)])
    for height, width in ((5, 7), (9, 4), (16, 24), (31, 33)):
        x = torch.randn(1, 16, height, width)
        torch.testing.assert_close(runner(vae, x), attend(vae, x), rtol=1e-4, atol=1e-5)
    assert (runner.mode, graphs()) == ("compiled", 1)


def test_it_is_used_on_gpus_alone(vae: Any) -> None:
    def kinds() -> set[bool]:
        return {isinstance(processor, ChunkedAttention) for processor in vae.attn_processors.values()}

    assert vae_for_device(vae, torch.device("cpu")) is vae
    assert kinds() == {False}
    assert vae_for_device(vae, torch.device("cuda")) is vae
    assert kinds() == {True}
