"""Where the autoencoder starts: a path for colour, laid by hand through both halves, beside random weights.

From random weights alone the latents collapse to brightness, and colour does not come back. So the first three latents
start as the means of 8 x 8 px blocks of Y, B - Y and R - Y. They travel on channels of their own, which every
residual adds nothing to; as a negative copy travels too, the activation behind the last norm does no harm:
silu(z) - silu(-z) = z. Two more channels are constant and large: the group norm, one group for all channels, then
divides by nearly the same number everywhere, and colour survives it as it is, in a crop as in a whole picture.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn

from training.networks.frozen_channels import hold_rows
from training.networks.norm_anchor import CALM, constants

LATENT_SCALES: Final = (1.4, 2.5, 2.5)
"""Latents per unit of Y, B - Y and R - Y, for pictures in -1..1."""
_CARRIED: Final = 6
"""Channels of the path: the three and their negatives."""
_LUMA: Final = torch.tensor([0.299, 0.587, 0.114])
_RESIDUAL_SCALE: Final = 0.25
_READ_SCALE: Final = 0.025
_FREE_LATENT_SCALE: Final = 60.0


def lay_colour_path(vae: Any) -> None:
    """Rewrite the weights of a fresh AutoencoderKL, without attention and with one norm group, in place."""
    with torch.no_grad():
        for norm in (module for module in vae.modules() if isinstance(module, nn.GroupNorm)):
            norm.weight.fill_(CALM)
            norm.bias.zero_()
        for half in (vae.encoder, vae.decoder):
            for resnet in _resnets(half):
                _lay_through_resnet(resnet)
        _lay_encoder(vae)
        _lay_decoder(vae)


def hold_colour_path(vae: Any) -> None:
    """Keep what writes the path and the constants from learning; the rest may read them, and add to what comes out."""
    for half in (vae.encoder, vae.decoder):
        writers = [half.conv_in, *(module.conv for module in half.modules() if hasattr(module, "conv"))]
        for resnet in _resnets(half):
            writers += [resnet.conv2, *([] if resnet.conv_shortcut is None else [resnet.conv_shortcut])]
            hold_rows(resnet.conv1, slice(-2, None))
        for conv in writers:
            hold_rows(conv, slice(0, _CARRIED), slice(-2, None))


def to_luma_chroma(pictures: Tensor) -> Tensor:
    """Pictures [n, 3, h, w] of red, green and blue as Y, B - Y, R - Y."""
    return torch.einsum("oc,nchw->nohw", _forth().to(pictures), pictures)


def _forth() -> Tensor:
    red, _, blue = torch.eye(3)
    return torch.stack((_LUMA, blue - _LUMA, red - _LUMA))


def _lay_encoder(vae: Any) -> None:
    encoder = vae.encoder
    _open(encoder.conv_in)
    encoder.conv_in.weight[:_CARRIED, :, 1, 1] = torch.cat((_forth(), -_forth()))
    for block in encoder.down_blocks:
        for downsampler in block.downsamplers or ():
            conv = downsampler.conv
            _open(conv)
            # The library pads right and below: these four taps see the block.
            for channel in range(_CARRIED):
                conv.weight[channel, channel, :2, :2] = 0.25
    _read_linearly(encoder.conv_out, torch.diag(torch.tensor(LATENT_SCALES)))
    # The fourth latent begins at the size of the others: from a small one the decoder learns to do without it.
    encoder.conv_out.weight[3] *= _FREE_LATENT_SCALE
    encoder.conv_out.weight[4:] = 0
    _identity(vae.quant_conv)


def _lay_decoder(vae: Any) -> None:
    decoder = vae.decoder
    _identity(vae.post_quant_conv)
    _open(decoder.conv_in)
    for channel, scale in enumerate(LATENT_SCALES):
        decoder.conv_in.weight[channel, channel, 1, 1] = 1 / scale
        decoder.conv_in.weight[channel + 3, channel, 1, 1] = -1 / scale
    smooth = torch.outer(*[torch.tensor([0.25, 0.5, 0.25])] * 2)
    for block in decoder.up_blocks:
        for upsampler in block.upsamplers or ():
            _open(upsampler.conv)
            for channel in range(_CARRIED):
                upsampler.conv.weight[channel, channel] = smooth
    _read_linearly(decoder.conv_out, torch.linalg.inv(_forth()))


def _lay_through_resnet(resnet: Any) -> None:
    _constants(resnet.conv1)
    # Read nowhere, the constants do not show at the borders, where padding is zero.
    resnet.conv1.weight[:, -2:] = 0
    resnet.conv2.weight[:, -2:] = 0
    resnet.conv1.weight[:-2] *= _RESIDUAL_SCALE * 2
    resnet.conv2.weight *= _RESIDUAL_SCALE
    nn.init.zeros_(resnet.conv2.bias)
    for kept in (slice(0, _CARRIED), slice(-2, None)):
        resnet.conv2.weight[kept] = 0
    if resnet.conv_shortcut is not None:
        _open(resnet.conv_shortcut)
        for channel in range(_CARRIED):
            resnet.conv_shortcut.weight[channel, channel] = 1


def _open(conv: nn.Conv2d) -> None:
    """Clear the path's and the constants' channels in what `conv` writes, and write the constants."""
    conv.weight[:_CARRIED] = 0
    assert conv.bias is not None
    conv.bias[:_CARRIED] = 0
    _constants(conv)


def _constants(conv: nn.Conv2d) -> None:
    assert conv.bias is not None
    conv.weight[-2:] = 0
    conv.bias[-2:] = constants(conv.out_channels)


def _read_linearly(conv: nn.Conv2d, matrix: Tensor) -> None:
    """Let rows of `conv`, behind a SiLU, give `matrix` times the path's three values."""
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
