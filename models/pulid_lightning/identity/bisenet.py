"""BiSeNet, the face parsing network, under the parameter names of its public checkpoints.

Source: PuLID specification section 2 C; Yu et al. 2018, "BiSeNet: Bilateral Segmentation Network". All widths come
from the state dict.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import WeightsError
from models.runtime.load import empty, fill
from models.runtime.state_dicts import StateDict, shape_of

CLASSES: Final = 19
"""Those of CelebAMask-HQ, by whose numbers faces are cut out."""
_UNUSED = ("conv_out16.", "conv_out32.")
"""Auxiliary heads, used in training only."""


class _ConvBnRelu(nn.Module):
    def __init__(self, c_in: int, c_out: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _BasicBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or c_in != c_out:
            self.downsample = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(self.downsample(x) + residual)


class _ResNet18(nn.Module):
    """Gives the features at strides 8, 16 and 32."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        stem, *stages = widths
        self.conv1 = nn.Conv2d(3, stem, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        inputs = [stem, *stages[:-1]]
        for number, (c_in, c_out) in enumerate(zip(inputs, stages, strict=True), start=1):
            blocks = nn.Sequential(_BasicBlock(c_in, c_out, 1 if number == 1 else 2), _BasicBlock(c_out, c_out, 1))
            self.add_module(f"layer{number}", blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        features = []
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
            features.append(x)
        return features[1:]


class _AttentionRefinement(nn.Module):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = _ConvBnRelu(c_in, c_out)
        self.conv_atten = nn.Conv2d(c_out, c_out, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * torch.sigmoid(self.bn_atten(self.conv_atten(_global_mean(x))))


class _ContextPath(nn.Module):
    def __init__(self, widths: list[int], width: int) -> None:
        super().__init__()
        self.resnet = _ResNet18(widths)
        self.arm16 = _AttentionRefinement(widths[3], width)
        self.arm32 = _AttentionRefinement(widths[4], width)
        self.conv_head32 = _ConvBnRelu(width, width)
        self.conv_head16 = _ConvBnRelu(width, width)
        self.conv_avg = _ConvBnRelu(widths[4], width, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The features at stride 8: of the backbone, and refined by what lies coarser."""
        feature8, feature16, feature32 = self.resnet(x)
        context = self.arm32(feature32) + self.conv_avg(_global_mean(feature32))
        context = self.arm16(feature16) + self.conv_head32(_resize(context, feature16))
        return feature8, self.conv_head16(_resize(context, feature8))


class _FeatureFusion(nn.Module):
    def __init__(self, c_in: int, c_out: int, c_gate: int) -> None:
        super().__init__()
        self.convblk = _ConvBnRelu(c_in, c_out, 1)
        self.conv1 = nn.Conv2d(c_out, c_gate, 1, bias=False)
        self.conv2 = nn.Conv2d(c_gate, c_out, 1, bias=False)

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        x: Tensor = self.convblk(torch.cat((detail, context), 1))
        gate = torch.sigmoid(self.conv2(F.relu(self.conv1(_global_mean(x)))))
        return x * gate + x


class _Output(nn.Module):
    def __init__(self, c_in: int, c_mid: int, classes: int) -> None:
        super().__init__()
        self.conv = _ConvBnRelu(c_in, c_mid)
        self.conv_out = nn.Conv2d(c_mid, classes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.conv_out(self.conv(x))
        return logits


class BiSeNet(nn.Module):
    """Normalised RGB [n, 3, height, width] gives the logits of every class, [n, classes, height, width]."""

    def __init__(self, backbone: list[int], context: int, fused: int, gate: int, head: int, classes: int) -> None:
        """Take the widths: stem and four stages of the backbone, context path, fusion and its gate, output head."""
        super().__init__()
        self.cp = _ContextPath(backbone, context)
        self.ffm = _FeatureFusion(backbone[2] + context, fused, gate)
        self.conv_out = _Output(fused, head, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Run the network; the size is kept."""
        logits: Tensor = self.conv_out(self.ffm(*self.cp(x)))
        resized: Tensor = F.interpolate(logits, x.shape[2:], mode="bilinear", align_corners=True)
        return resized


def load_bisenet(state: StateDict, device: torch.device) -> BiSeNet:
    """Build the network that `state` fits, in float32; raises `WeightsError`."""
    network = empty(
        lambda: BiSeNet(
            backbone=[
                _width(state, "cp.resnet.conv1"),
                *(_width(state, f"cp.resnet.layer{number}.0.conv1") for number in range(1, 5)),
            ],
            context=_width(state, "cp.arm16.conv.conv"),
            fused=_width(state, "ffm.convblk.conv"),
            gate=_width(state, "ffm.conv1"),
            head=_width(state, "conv_out.conv.conv"),
            classes=_width(state, "conv_out.conv_out"),
        )
    )
    used = {key: value for key, value in state.items() if not key.startswith(_UNUSED)}
    fill(network, used, device, torch.float32)
    if (classes := _width(state, "conv_out.conv_out")) != CLASSES:
        raise WeightsError(f"it tells {classes} classes apart where {CLASSES} are due.")
    return network


def _width(state: StateDict, convolution: str) -> int:
    return shape_of(state, f"{convolution}.weight")[0]


def _global_mean(x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True)


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[2:], mode="nearest")
