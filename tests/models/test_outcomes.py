"""What is not finite is seen before the conversion to 8 bits, however the decoder is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.errors import NonFiniteResult
from models.ic_light import vae as ic_light
from models.outcomes import Decoded, concatenate, non_finite, outcomes
from models.pulid_lightning import sdxl
from models.runtime.compiler import Compiler
from models.runtime.runner import Execution, Runner
from tests.models.runtime.fake_capturer import FakeGraphCapturer

Decode = Callable[[Any, Tensor], Decoded]


class SmallVae(nn.Module):
    """What both pipelines use of a VAE, in two layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.post_quant_conv = nn.Conv2d(4, 4, 1)
        self.decoder = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 3, 3))
        self.config, self.dtype = SimpleNamespace(scaling_factor=0.5), torch.float32


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    """No graphs of earlier tests, and no kernels that are chosen by thresholds of size."""
    torch._dynamo.reset()
    with torch.backends.nnpack.flags(False):
        mkldnn = torch.backends.mkldnn.set_flags(False)
        yield
        torch.backends.mkldnn.set_flags(*mkldnn)
    torch._dynamo.reset()


def latents(height: int, width: int, value: float = 0.0) -> Tensor:
    """Noise with one odd value."""
    drawn = torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(1))
    drawn[0, 2, 3, 1] = value
    return drawn


@torch.inference_mode()
@pytest.mark.parametrize("decode", [sdxl.decode_picture, ic_light.decode_picture], ids=["sdxl", "ic_light"])
def test_compiled_and_captured_decoders_see_it_too(decode: Decode) -> None:
    vae, capturer = SmallVae(), FakeGraphCapturer()
    runner = Runner(decode, Execution(Compiler("eager"), capturer, stance="fail_on_recompile"))
    runner.compile(vae, [latents(16, 18)], [latents(20, 22)])
    runner.capture(vae, latents(24, 24))
    for size in ((24, 24), (17, 19)):
        for value in (0.0, torch.nan, torch.inf, -torch.inf, 0.0):
            expected, given = decode(vae, latents(*size, value)), runner(vae, latents(*size, value))
            assert expected.non_finite.tolist() == [[value != 0, value != 0]]
            assert torch.equal(given.non_finite, expected.non_finite)
            assert torch.equal(given.pictures, expected.pictures)
    assert capturer.replayed == 5


@torch.inference_mode()
@pytest.mark.parametrize("decode", [sdxl.decode_picture, ic_light.decode_picture], ids=["sdxl", "ic_light"])
def test_a_decoder_that_overflows_is_told_from_latents_that_did(decode: Decode) -> None:
    """In half precision, whose largest number is 65504."""
    vae = SmallVae().half()
    vae.dtype = torch.float16
    assert decode(vae, latents(8, 8)).non_finite.tolist() == [[False, False]]
    vae.decoder[-1].weight.mul_(60_000)
    vae.decoder[-1].bias.fill_(60_000)
    assert decode(vae, latents(8, 8)).non_finite.tolist() == [[False, True]]


def test_rows_are_told_apart() -> None:
    first, second = torch.zeros(3, 2, 2), torch.ones(3, 5)
    first[0, 1, 1], second[0, 0], second[2, 4] = torch.inf, torch.nan, -torch.inf
    assert non_finite(first, second).tolist() == [[True, True], [False, False], [False, True]]


def test_a_request_has_all_its_pictures_or_the_first_stage_that_failed() -> None:
    pictures = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 2, 2, 3)
    found = torch.tensor([[False, False], [False, True], [True, True], [False, False]])
    decoded = concatenate([Decoded(pictures[:1], found[:1]), Decoded(pictures[1:], found[1:])])
    first, second, third = outcomes(*decoded, ("the latents", "the picture"), [1, 2, 1])
    assert isinstance(first, np.ndarray) and isinstance(third, np.ndarray)
    assert (first.shape, first.max(), third.min()) == ((1, 2, 2, 3), 0, 3)
    assert isinstance(second, NonFiniteResult)
    assert "first seen in the latents," in str(second)
