"""The matting network: RMBG-1.4's topology in narrow widths, with a fixed finest level.

The network's input is about 1024 x 1024 px (IC-Light specification section 2), too large to train on without a GPU. So
the finest level is fixed: in the encoder it passes on colours and their negatives, of which max pooling keeps the
brightest and the darkest; in the decoder it passes on the map. All other levels work at a quarter of the input's sides
and are trained at that size.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.demo import architecture
from models.ic_light.rmbg import Rmbg

SHRINK: Final = 4
"""Side of the network's input divided by that of the trained levels."""
_DOWN: Final = ("stage2", "stage3", "stage4", "stage5", "stage6")
_UP: Final = ("stage5d", "stage4d", "stage3d", "stage2d")
_FINEST: Final = ("conv_in", "stage1", "stage1d", "side1")


def new_network(seed: int) -> Rmbg:
    """A network with random weights drawn from `seed`; the finest level is not trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = architecture.matting()
    for name in _FINEST:
        network.get_submodule(name).requires_grad_(False)
    return network


def colours_of(pictures: Tensor) -> Tensor:
    """Input of the trained levels for pictures [n, 3, 2h, 2w] in -1..1 at half the input's sides: [n, 6, h, w]."""
    return F.max_pool2d(F.relu(torch.cat((pictures, -pictures), dim=1) + 1), 2)


def maps_of(network: Rmbg, colours: Tensor) -> list[Tensor]:
    """Run the trained levels: logits of alpha [n, 1, h, w], first of `colours`' size, then ever coarser."""
    features = [network.get_submodule(_DOWN[0])(colours)]
    for stage in _DOWN[1:]:
        features.append(network.get_submodule(stage)(F.max_pool2d(features[-1], 2)))
    deeper = features.pop()
    maps = [network.get_submodule("side6")(deeper)]
    for side, stage in zip(range(5, 1, -1), _UP, strict=True):
        skip = features.pop()
        larger = F.interpolate(deeper, size=skip.shape[2:], mode="bilinear", align_corners=False)
        deeper = network.get_submodule(stage)(torch.cat((larger, skip), dim=1))
        maps.append(_centre_tap(network, deeper) if side == 2 else network.get_submodule(f"side{side}")(deeper))
    return maps[::-1]


def _centre_tap(network: Rmbg, features: Tensor) -> Tensor:
    # A 1 x 1 convolution commutes with enlarging.
    side = network.get_submodule("side2")
    assert isinstance(side, nn.Conv2d)
    return F.conv2d(features, side.weight[:, :, 1:2, 1:2], side.bias)


def init_finest_level(network: Rmbg) -> None:
    """Write the fixed weights of the finest level in place: colours down, the second side output's map up."""
    with torch.no_grad():
        for name in _FINEST:
            _clear(network.get_submodule(name))
        _init_down_path(network)
        _init_up_path(network)


def _clear(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            part.weight.zero_()
            assert part.bias is not None
            part.bias.zero_()
        if isinstance(part, nn.BatchNorm2d):
            part.reset_parameters()


def _init_down_path(network: Rmbg) -> None:
    taps = network.get_parameter("conv_in.weight")
    for colour in range(3):
        # The mean of 2 x 2 px, which needs no padding.
        taps[colour, colour, 1:, 1:], taps[3 + colour, colour, 1:, 1:] = 0.25, -0.25
    network.get_parameter("stage1.rebnconvin.conv_s1.weight")[:, :, 1, 1] = torch.eye(6)
    network.get_parameter("stage1.rebnconvin.conv_s1.bias").fill_(1)


def _init_up_path(network: Rmbg) -> None:
    taps, bias = network.get_parameter("side2.weight")[0, :, 1, 1], network.get_parameter("side2.bias")
    first = network.get_parameter("stage1d.rebnconvin.conv_s1.weight")
    signs = torch.tensor([1.0, -1.0])
    # ReLU keeps the positive part; the second channel carries the negative one.
    first[:, : len(taps), 1, 1] = signs[:, None] * taps
    network.get_parameter("stage1d.rebnconvin.conv_s1.bias").copy_(signs * bias)
    network.get_parameter("side1.weight")[0, :, 1, 1] = signs
