"""Linear layers in float8: how far they are off, and which ones a UNet gets."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.errors import DeviceUnfit
from models.runtime.fp8 import FLOAT8, Float8Linear, quantise, require_fp8, to_float8
from tests.models.runtime.networks import predict, sdxl, unet_inputs

HALF_A_STEP = 2**-4
"""Largest relative error of rounding to three bits of mantissa."""


def error(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Of the whole, relative to its length."""
    return float((found.float() - exact).norm() / exact.norm())


def test_rounding_is_off_by_half_a_step_at_most() -> None:
    torch.manual_seed(1)
    x = torch.randn(50, 300) * torch.logspace(-6, 6, 50)[:, None]
    rounded, scale = to_float8(x)
    assert rounded.dtype == FLOAT8
    assert scale.shape == (50, 1)
    # Numbers a thousand times smaller than their row's largest are steps of equal size.
    floor = x.abs().amax(1, keepdim=True) / 2**17
    assert ((rounded.float() * scale - x).abs() <= HALF_A_STEP * x.abs() * (1 + 1e-5) + floor).all()


def test_numbers_that_float8_has_are_exact() -> None:
    linear = nn.Linear(32, 16)
    with torch.no_grad():
        linear.weight.copy_(torch.randint(-8, 9, (16, 32)).float()).T[0] = 448 / 16
        x = torch.randint(-8, 9, (5, 32)).float()
        x[:, 1] = 448 / 32
        torch.testing.assert_close(Float8Linear(linear)(x), linear(x))


def test_the_error_is_that_of_two_roundings() -> None:
    torch.manual_seed(2)
    linear = nn.Linear(640, 320)
    x = torch.randn(2, 77, 640)
    with torch.no_grad():
        exact, found = linear(x), Float8Linear(linear)(x)
    assert found.shape == exact.shape
    # Rounding errors are evenly spread over half a step: 2.6 % per factor on average.
    assert 0.01 < error(found, exact) < 0.045


def test_every_row_and_every_channel_has_a_scale_of_its_own() -> None:
    """One that is huge leaves the others as exact as they were."""
    torch.manual_seed(3)
    linear, x = nn.Linear(64, 32, bias=False), torch.randn(4, 64)
    with torch.no_grad():
        before = Float8Linear(linear)(x)
        linear.weight[5] *= 1e4
        x[2] *= 1e4
        after = Float8Linear(linear)(x)
    others = [row for row in range(4) if row != 2], [channel for channel in range(32) if channel != 5]
    assert torch.equal(after[others[0]][:, others[1]], before[others[0]][:, others[1]])
    assert error(after[2, 5], 1e8 * before[2, 5]) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_precision_and_zeros_are_kept(dtype: torch.dtype) -> None:
    layer = Float8Linear(nn.Linear(16, 32, bias=False).to(dtype))
    found = layer(torch.zeros(3, 16, dtype=dtype))
    assert found.dtype == dtype
    assert torch.equal(found, torch.zeros(3, 32, dtype=dtype))
    assert Float8Linear(nn.Linear(16, 32).to(dtype))(torch.zeros(2, 5, 16, dtype=dtype)).dtype == dtype


def test_a_unets_transformers_are_replaced_and_nothing_else() -> None:
    unet = sdxl()
    before = dict(unet.named_modules())
    linears = {name for name, layer in before.items() if isinstance(layer, nn.Linear)}
    count = quantise(unet)
    replaced = {name for name, layer in unet.named_modules() if isinstance(layer, Float8Linear)}
    assert len(replaced) == count > 10
    assert all(".transformer_blocks." in name for name in replaced)
    assert not [name for name in replaced if name.endswith(("attn2.to_k", "attn2.to_v"))]
    # All that is left is as it was: texts, timesteps, what leads in and out of the transformers.
    assert all(unet.get_submodule(name) is before[name] for name in linears - replaced)
    assert {name.rpartition(".transformer_blocks.")[2] for name in replaced} >= {"0.attn1.to_q", "0.attn2.to_out.0"}


def test_a_quantised_unet_predicts_nearly_the_same_noise() -> None:
    torch.manual_seed(4)
    unet = sdxl()
    inputs = unet_inputs(unet, 2, 12, 16, 9)
    with torch.inference_mode():
        exact = predict(unet, *inputs)
        quantise(unet)
        assert 0 < error(predict(unet, *inputs), exact) < 0.05


def test_a_device_without_float8_is_refused() -> None:
    with pytest.raises(DeviceUnfit, match=r"capability 8\.9"):
        require_fp8(torch.device("cpu"))


@pytest.mark.parametrize(("capability", "fits"), [((8, 6), False), ((8, 9), True), ((9, 0), True), ((7, 5), False)])
def test_the_gpus_that_can_multiply_float8(
    capability: tuple[int, int], fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    if fits:
        require_fp8(torch.device("cuda"))
    else:
        with pytest.raises(DeviceUnfit):
            require_fp8(torch.device("cuda"))
