"""Initialisation of the autoencoder: a fixed path for colour through both halves, beside random weights.

From random weights alone the latents collapse to brightness, and colour is lost. So the first three latents start as
the means of 8 x 8 px blocks of Y, B - Y and R - Y. They have channels of their own, to which residuals add nothing; a
negative copy of each cancels the activation behind the last norm: silu(z) - silu(-z) = z. Two anchor channels are
constant and large, so that the group norm, one group for all channels, divides by nearly the same number everywhere,
and colour survives it unchanged, in a crop as in a whole picture.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn

from training.networks.frozen_channels import freeze_output_channels
from training.networks.norm_anchor import ANCHOR_DIVISOR, anchor_values

LATENT_SCALES: Final = (1.4, 2.5, 2.5)
"""Latents per unit of Y, B - Y and R - Y, for pictures in -1..1."""
_CARRIED: Final = 6
"""Channels of the path: the three and their negatives."""
_LUMA: Final = torch.tensor([0.299, 0.587, 0.114])
_RESIDUAL_SCALE: Final = 0.25
_READ_SCALE: Final = 0.025
_FREE_LATENT_SCALE: Final = 60.0


def init_colour_path(vae: Any) -> None:
    """Initialise a new AutoencoderKL, without attention and with one norm group, in place."""
    with torch.no_grad():
        for norm in (module for module in vae.modules() if isinstance(module, nn.GroupNorm)):
            norm.weight.fill_(ANCHOR_DIVISOR)
            norm.bias.zero_()
        for half in (vae.encoder, vae.decoder):
            for resnet in _resnets(half):
                _init_resnet(resnet)
        _init_encoder(vae)
        _init_decoder(vae)


def freeze_colour_path(vae: Any) -> None:
    """Freeze the weights that write the path and the anchors; other weights may read them and add to the output."""
    for half in (vae.encoder, vae.decoder):
        writers = [half.conv_in, *(module.conv for module in half.modules() if hasattr(module, "conv"))]
        for resnet in _resnets(half):
            writers += [resnet.conv2, *([] if resnet.conv_shortcut is None else [resnet.conv_shortcut])]
            freeze_output_channels(resnet.conv1, slice(-2, None))
        for conv in writers:
            freeze_output_channels(conv, slice(0, _CARRIED), slice(-2, None))


def to_luma_chroma(pictures: Tensor) -> Tensor:
    """Pictures [n, 3, h, w] of red, green and blue as Y, B - Y, R - Y."""
    return torch.einsum("oc,nchw->nohw", _forth().to(pictures), pictures)


def _forth() -> Tensor:
    red, _, blue = torch.eye(3)
    return torch.stack((_LUMA, blue - _LUMA, red - _LUMA))


def _init_encoder(vae: Any) -> None:
    encoder = vae.encoder
    _reserve_path(encoder.conv_in)
    encoder.conv_in.weight[:_CARRIED, :, 1, 1] = torch.cat((_forth(), -_forth()))
    for block in encoder.down_blocks:
        for downsampler in block.downsamplers or ():
            conv = downsampler.conv
            _reserve_path(conv)
            # The library pads right and below: these four taps cover the block.
            for channel in range(_CARRIED):
                conv.weight[channel, channel, :2, :2] = 0.25
    _read_linearly(encoder.conv_out, torch.diag(torch.tensor(LATENT_SCALES)))
    # The fourth latent starts at the scale of the others: the decoder learns to ignore a small one.
    encoder.conv_out.weight[3] *= _FREE_LATENT_SCALE
    encoder.conv_out.weight[4:] = 0
    _identity(vae.quant_conv)


def _init_decoder(vae: Any) -> None:
    decoder = vae.decoder
    _identity(vae.post_quant_conv)
    _reserve_path(decoder.conv_in)
    for channel, scale in enumerate(LATENT_SCALES):
        decoder.conv_in.weight[channel, channel, 1, 1] = 1 / scale
        decoder.conv_in.weight[channel + 3, channel, 1, 1] = -1 / scale
    smooth = torch.outer(*[torch.tensor([0.25, 0.5, 0.25])] * 2)
    for block in decoder.up_blocks:
        for upsampler in block.upsamplers or ():
            _reserve_path(upsampler.conv)
            for channel in range(_CARRIED):
                upsampler.conv.weight[channel, channel] = smooth
    _read_linearly(decoder.conv_out, torch.linalg.inv(_forth()))


def _init_resnet(resnet: Any) -> None:
    _write_anchors(resnet.conv1)
    # The anchors are read nowhere, so the zero padding does not show at the borders.
    resnet.conv1.weight[:, -2:] = 0
    resnet.conv2.weight[:, -2:] = 0
    resnet.conv1.weight[:-2] *= _RESIDUAL_SCALE * 2
    resnet.conv2.weight *= _RESIDUAL_SCALE
    nn.init.zeros_(resnet.conv2.bias)
    for kept in (slice(0, _CARRIED), slice(-2, None)):
        resnet.conv2.weight[kept] = 0
    if resnet.conv_shortcut is not None:
        _reserve_path(resnet.conv_shortcut)
        for channel in range(_CARRIED):
            resnet.conv_shortcut.weight[channel, channel] = 1


def _reserve_path(conv: nn.Conv2d) -> None:
    """Zero the path's channels in the output of `conv`, and write the anchors."""
    conv.weight[:_CARRIED] = 0
    assert conv.bias is not None
    conv.bias[:_CARRIED] = 0
    _write_anchors(conv)


def _write_anchors(conv: nn.Conv2d) -> None:
    assert conv.bias is not None
    conv.weight[-2:] = 0
    conv.bias[-2:] = anchor_values(conv.out_channels)


def _read_linearly(conv: nn.Conv2d, matrix: Tensor) -> None:
    """Make rows of `conv`, behind a SiLU, give `matrix` times the path's three values."""
    rows = len(matrix)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    conv.weight *= _READ_SCALE
    conv.weight[:, -2:] = 0
    conv.weight[:rows, :_CARRIED] = 0
    conv.weight[:rows, :3, 1, 1] = matrix
    conv.weight[:rows, 3:_CARRIED, 1, 1] = -matrix


def _identity(conv: nn.Conv2d) -> None:
    nn.init.dirac_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)


def _resnets(half: Any) -> list[Any]:
    return [module for module in half.modules() if type(module).__name__ == "ResnetBlock2D"]
