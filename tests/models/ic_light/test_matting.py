"""The matting network's input and output."""

from __future__ import annotations

import pytest
import torch

from bench.full_size import ic_light as full_size
from models.ic_light.matting import feed_size
from models.ic_light.networks import Networks


@pytest.mark.parametrize(
    ("size", "feed"),
    [
        ((512, 640), (896, 1152)),
        ((1920, 1080), (1344, 768)),
        ((141, 173), (896, 1152)),
        ((512, 512), (1024, 1024)),
        ((460, 560), (960, 1152)),
        ((640, 480), (1152, 896)),
        ((2000, 50), (6464, 192)),
    ],
)
def test_the_feed_keeps_aspect_and_area(size: tuple[int, int], feed: tuple[int, int]):
    assert feed_size(*size) == feed


def test_the_feed_of_extreme_shapes_is_clamped():
    assert feed_size(1_500_000, 16) == (32_768, 64)
    assert feed_size(16, 1_500_000) == (64, 32_768)


def test_a_feed_has_the_feeds_size(networks: Networks, noise: torch.Tensor):
    width, height = feed_size(90, 120)
    assert networks.matting.to_feed(noise).shape == (height, width, 3)


def test_flat_blocks_dilate_and_pooled_blocks_only_at_the_bottom():
    with torch.device("meta"):
        network = full_size.rmbg()

    def dilations(stage: str) -> list[int]:
        units = network.get_submodule(stage).modules()
        return [unit.dilation[0] for unit in units if isinstance(unit, torch.nn.Conv2d)]

    assert dilations("stage5") == dilations("stage6") == dilations("stage5d") == [1, 1, 2, 4, 8, 4, 2, 1]
    assert dilations("stage4") == dilations("stage4d") == [1, 1, 1, 1, 2, 1, 1, 1]
    assert dilations("stage1") == [1] * 7 + [2] + [1] * 6


@torch.inference_mode()
def test_alpha_covers_the_picture_and_depends_on_it(networks: Networks, noise: torch.Tensor):
    def alpha_of(picture: torch.Tensor) -> torch.Tensor:
        return networks.matting.alpha(networks.matting.to_feed(picture), 90, 120)

    alpha = alpha_of(noise)
    assert alpha.shape == (120, 90, 1)
    assert alpha.dtype == torch.float32
    assert 0 <= alpha.min() < alpha.max() <= 1
    assert (alpha - alpha_of(torch.full_like(noise, 127))).abs().max() > 0.01


@torch.inference_mode()
def test_batch_norm_uses_its_running_statistics(networks: Networks):
    feed = torch.randn(2, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    network = networks.matting.network
    alone = network(feed[:1])
    assert torch.allclose(network(feed)[:1], alone, atol=1e-5)
    assert alone.shape == (1, 1, 64, 128)
