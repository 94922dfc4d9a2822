"""The painter: fixed weights of the demo UNet that paint the ID tokens' grids into a box of the picture.

Training never has to learn what a face is; it learns what to do with the painted one. All of this has channels of its
own, which nothing else writes:

1. The coarsest level finds X and Y (`positions`); upsamplers carry them up, interpolating linearly.
2. At the level of half the latents' resolution, the first residual block squares them.
3. Two transformers paint. A query holds Y and Y²; the key of a token, for each head, the place of one row: so the
   attention's weight is a Gaussian of the distance to that row, and each head adds its rows' values, as columns that
   the whole picture line shares. The feed-forward layer gates each column by a parabola of X, and sums. The first
   transformer paints the left half of the brightness grid, the second the right one, each half of the colours.

Where the tokens' weight in the attention is small against that of the appended zero tokens, amplitudes are inverse to
their number: `stylized` paints half as strong as `high-fidelity`. The text gives these attentions a constant tiny
value, odd in X, which all products with what the identity gives, even in X, sum to zero over a picture: the projection
onto the text, which `ortho` methods subtract, vanishes. Numbers that are differences of large ones are exact in half
precision.

A norm keeps the channels' values as far as its divisor is constant: every reserved group has large constants, and a
channel of zeros, whose difference to another is free of the norm's mean.
"""

from __future__ import annotations

import math
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.demo.face_code import (
    BODY_CONSTANTS,
    BODY_CONTENT,
    CHROMA,
    HEADS,
    LUMA,
    TAP_CONSTANTS,
    TOKENS,
)
from models.pulid_lightning.attention import METHODS, WEIGHT, FaceStyle
from models.pulid_lightning.sdxl import GUIDANCE
from training.networks.frozen_channels import Reserved
from training.networks.positions import CHANNELS as COARSE
from training.networks.positions import PositionNetwork

PITCH: Final = 1 / 30
"""Side of a cell of the brightness grid in ramp units."""
_FIRST_ROW: Final = -22
"""Y of the first row in pitches."""
BOX: Final = (
    -PITCH * LUMA[1] / 2,
    PITCH * (_FIRST_ROW - 0.5),
    PITCH * LUMA[1] / 2,
    PITCH * (_FIRST_ROW - 0.5 + LUMA[0]),
)
"""Left, top, right and bottom of what is painted, in ramp units."""
RESERVED: Final = 40
"""Reserved channels of the painting level: two norm groups, the first of positions, the second of the painting."""
CLEAN: Final = slice(40, 60)
"""Trained channels of that level that the noisy latents do not reach."""
HIDDEN: Final = 60
"""The first channels within that level's residual blocks, which they do not reach either."""
CLEAN_LAST: Final = 40
"""Number of those at the last level: the first ones, half of all norm groups."""
PAINTED: Final = slice(20, 24)
"""Channels with the painted brightness and colour differences, and a dome over the face."""

# Channels of the first group at the painting level, and the first ones within its transformers.
_X, _Y, _XX, _YY, _ONE, _ZERO = range(6)
_GROUP: Final = 20
_PINNED: Final = (slice(_ONE, _GROUP), slice(PAINTED.stop, RESERVED))
"""Constants, which nothing else reads."""
_PIN: Final = 100.0
# What the upsampler in front of that level writes: X and Y, positive and negative, at scales whose sigmoid-weighted
# values add up to squares; constants for the norm behind them.
SCALES: Final = (1.0, 0.5, 0.25)
FINE: Final = 30
FINE_PIN: Final = 30.0
# Channels within the transformers, behind the six above.
_CANVAS: Final = 6  # 4 channels: three of the painting and the dome
_COLUMNS: Final = 10
_TINTS: Final = 26  # 4 groups, as `chroma_slot` numbers them, of 4 columns
_PINS: Final = slice(42, 48)
_INNER: Final = 48
_INNER_PIN: Final = 50.0
_LOGIT: Final = -2.5
_SHARPNESS: Final = 1.5
"""Half the inverse variance of a row's Gaussian, in pitches."""
_TEXT_VALUE: Final = 2.0**-12
_TEXT_SLOPE: Final = 2.0
TEXT_CONSTANT: Final = 0
"""Channel of the text's states that is 1 for the start token and -1 for all others."""
_COLUMN_GATE: Final = 1.25
_DOME: Final = (0.0, -3.0, 15.0, 19.0)
"""Centre and half axes of the dome in pitches."""
_FLAG: Final = 8.0
_COLOURS: Final = 3
_LATENTS: Final = 4
_HALF: Final = 0.7
"""Two weights of this size make a row of norm 1, to which rows are clipped."""
_NORMS: Final = 0.5
"""About what the norms on the way divide the painted picture by."""


class Adapter(nn.Module):
    """The identity's projections, `to_k` and `to_v` of [inner width, context width], in the order of evaluation."""

    def __init__(self, layers: list[Any]) -> None:
        """All zero; `layers` are the UNet's cross-attentions."""
        super().__init__()
        shapes = [(layer.inner_dim, layer.to_k.in_features) for layer in layers]
        self.to_k = nn.ParameterList(nn.Parameter(torch.zeros(shape)) for shape in shapes)
        self.to_v = nn.ParameterList(nn.Parameter(torch.zeros(shape)) for shape in shapes)


def init_painter(unet: Any, adapter: Adapter, positions: PositionNetwork) -> Reserved:
    """Initialise the painter in a new UNet and adapter, in place; returns what is to stay frozen."""
    held = Reserved()
    painting = unet.up_blocks[3]
    with torch.no_grad():
        _init_positions(unet, positions, held)
        _init_upsamplers(unet, held)
        _init_squares(painting.resnets[0], held)
        last = painting.resnets[1]
        for pins in _PINNED:
            held.unread(painting.upsamplers[0].conv, pins)
            held.unread(last.conv_shortcut, pins)
            held.set(last.norm1.weight, pins, 0.0)
            held.set(last.norm1.bias, pins, 0.0)
        _pass_through(last, RESERVED, held)
        for number, transformer in enumerate(painting.attentions):
            _init_transformer(transformer, held)
            _init_rows(
                transformer.transformer_blocks[0], adapter.to_k[number + 1], adapter.to_v[number + 1], number, held
            )
            _init_columns(transformer.transformer_blocks[0], number, held)
        _init_flag(unet.mid_block.attentions[0], adapter.to_v[0], held)
    for parameter in adapter.parameters():
        held.freeze(parameter)
    held.round_to_half()
    with torch.no_grad():
        _calibrate_squares(painting.resnets[0])
    return held


def separate_noise(unet: Any, held: Reserved) -> None:
    """Keep the noisy latents out of some channels behind the painter: they predict the picture's mean from the rest.

    These channels see positions, the painting, and prompt and timestep, and so what is known of the picture before any
    of it shows in the noise. All other channels may read them.
    """
    painting, last = unet.up_blocks[3], unet.up_blocks[4]
    # Rows of each layer that may read its first channels alone; for the first one, what the last upsampler writes.
    for layer, rows, first in (
        (painting.resnets[0].conv1, slice(_GROUP, HIDDEN), FINE),
        (painting.resnets[0].conv2, CLEAN, HIDDEN),
        (painting.resnets[0].conv_shortcut, CLEAN, FINE),
        (painting.resnets[1].conv1, slice(0, HIDDEN), CLEAN.stop),
        (painting.resnets[1].conv2, CLEAN, HIDDEN),
        (painting.resnets[1].conv_shortcut, CLEAN, CLEAN.stop),
        (painting.upsamplers[0].conv, slice(0, CLEAN.stop), CLEAN.stop),
        (last.resnets[0].conv1, slice(0, CLEAN_LAST), CLEAN.stop),
        (last.resnets[0].conv2, slice(0, CLEAN_LAST), CLEAN_LAST),
        (last.resnets[0].conv_shortcut, slice(0, CLEAN_LAST), CLEAN.stop),
        (last.resnets[1].conv1, slice(0, CLEAN_LAST), CLEAN_LAST),
    ):
        held.set(layer.weight, (rows, slice(first, None)), 0.0)
    for transformer in painting.attentions:
        held.rows(transformer.proj_out, CLEAN)
    with torch.no_grad():
        # The norm in front of the second residual block divides by the constants beside them.
        for channels in (slice(0, _ONE), PAINTED):
            painting.resnets[1].norm1.weight[channels] = _PIN * math.sqrt((_GROUP - 6) / 30)


def gains(alphas: Tensor) -> Tensor:
    """Gains [8, n] of the last block's norm groups for `init_identity`: four of clean channels, four of all others.

    If the picture's mean is known, and the rest is Gaussian of unit variance, the best prediction weighs the mean about
    by the first and the noisy latents by the second; both times sqrt(alpha), as what is predicted is.
    """
    mean = (1 - alphas).sqrt() / (1 - alphas / 2)
    return alphas.sqrt() * torch.stack([mean] * 4 + [alphas] * 4)


def init_readout(unet: Any, scales: Tensor) -> None:
    """Let an untrained UNet predict the painted picture where there is nothing but noise; all of it stays trainable.

    Random weights pass three channels of many on so faintly that the noise is learned first. `scales` [3] are the
    latents per unit of brightness and colour differences. The last block is that of `init_identity`: what it predicts
    is minus the latents at the highest noise levels. All values come in pairs of both signs, as silu(z) - silu(-z) = z.
    """
    paired = slice(0, 2 * _COLOURS)
    signs = torch.tensor([1.0, -1.0]).repeat_interleave(_COLOURS)
    smooth = torch.outer(*[torch.tensor([0.25, 0.5, 0.25])] * 2)
    upsampler, (first, last) = unet.up_blocks[3].upsamplers[0].conv, unet.up_blocks[4].resnets
    with torch.no_grad():
        for layer in (upsampler, first.conv_shortcut, first.conv2, first.conv1):
            layer.weight[paired] = 0
            layer.bias[paired] = 0
        last.conv1.weight[paired] = 0
        for channel in range(2 * _COLOURS):
            colour = channel % _COLOURS
            upsampler.weight[channel, PAINTED.start + colour] = signs[channel] * smooth
            first.conv_shortcut.weight[channel, channel] = 1
            last.conv1.weight[channel, colour, 1, 1] = signs[channel] * _HALF
            last.conv1.weight[channel, colour + _COLOURS, 1, 1] = -signs[channel] * _HALF
            for sign, latent in ((1, colour), (-1, colour + _LATENTS)):
                last.conv2.weight[latent, channel, 1, 1] = -sign * signs[channel] * scales[colour] * _NORMS


def init_text_constant(encoder: Any, held: Reserved) -> None:
    """Give the first channel of a text encoder's states its constant; what writes it is frozen."""
    embeddings = encoder.text_model.embeddings if hasattr(encoder, "text_model") else encoder.embeddings
    held.set(embeddings.token_embedding.weight, (slice(None), TEXT_CONSTANT), 0.0)
    held.set(embeddings.position_embedding.weight, (slice(None), TEXT_CONSTANT), -1.0)
    held.set(embeddings.position_embedding.weight, (0, TEXT_CONSTANT), 1.0)
    for name, layer in encoder.named_modules():
        if name.endswith(("out_proj", "fc2")):
            held.rows(layer, slice(TEXT_CONSTANT, TEXT_CONSTANT + 1))


def _init_positions(unet: Any, positions: PositionNetwork, held: Reserved) -> None:
    """Copy the position network into the coarsest level, and bar all else from its channels."""
    coarse = slice(0, COARSE)
    held.rows(unet.down_blocks[3].downsamplers[0].conv, coarse)
    up = unet.up_blocks[0]
    blocks = [unet.down_blocks[4].resnets[0], *unet.mid_block.resnets, *up.resnets]
    sources: list[Any] = list(positions.blocks)
    for block, source in zip(blocks, sources, strict=True):
        width = source.in_channels
        # The skip connection's reserved channels are the first ones of the second half.
        reads = [slice(0, COARSE), slice(block.in_channels // 2, block.in_channels // 2 + COARSE)][: width // COARSE]
        for at, own in zip((slice(0, COARSE), slice(COARSE, 2 * COARSE)), reads, strict=False):
            held.set(block.norm1.weight, own, source.norm1.weight[at][:COARSE])
            held.set(block.norm1.bias, own, source.norm1.bias[at][:COARSE])
        for layer in (block.conv1, block.conv2, block.time_emb_proj, block.conv_shortcut):
            if layer is not None:
                held.rows(layer, coarse)
        for at, own in zip((slice(0, COARSE), slice(COARSE, 2 * COARSE)), reads, strict=False):
            block.conv1.weight[coarse, own] = source.conv1.weight[:, at]
            if block.conv_shortcut is not None:
                identity = torch.eye(COARSE)[:, :, None, None]
                shortcut = identity if source.conv_shortcut is None else source.conv_shortcut.weight[:, at]
                block.conv_shortcut.weight[coarse, own] = shortcut
        block.conv1.bias[coarse] = source.conv1.bias
        block.conv2.weight[coarse, coarse] = source.conv2.weight
        block.conv2.bias[coarse] = source.conv2.bias
        held.set(block.norm2.weight, coarse, source.norm2.weight)
        held.set(block.norm2.bias, coarse, source.norm2.bias)
        if source.conv_shortcut is not None:
            block.conv_shortcut.bias[coarse] = source.conv_shortcut.bias
    held.rows(unet.mid_block.attentions[0].proj_out, coarse)
    _init_upsampler(up.upsamplers[0].conv, positions.head.weight[:, :, 0, 0], 1.0, held)


def _init_upsamplers(unet: Any, held: Reserved) -> None:
    """Carry the positions up; the last upsampler in front of the painting level writes them at all scales."""
    identity = torch.eye(5, COARSE)
    for block in unet.up_blocks[1:3]:
        for resnet in block.resnets:
            _pass_through(resnet, COARSE, held)
    _init_upsampler(unet.up_blocks[1].upsamplers[0].conv, identity, 1 / 2, held)
    last = unet.up_blocks[2].upsamplers[0].conv
    _init_upsampler(last, identity, 1 / 4, held)
    held.rows(last, slice(5, FINE))
    x, y = last.weight[:2].clone()
    signed = [sign * scale * kernel for scale in SCALES for kernel in (x, y) for sign in (1, -1)]
    last.weight[: len(signed)] = torch.stack(signed)
    last.bias[: len(signed)] = 0
    last.bias[len(signed) : FINE] = torch.tensor([FINE_PIN, -FINE_PIN]).repeat((FINE - len(signed)) // 2)


def _init_upsampler(conv: nn.Conv2d, readout: Tensor, half_cell: float, held: Reserved) -> None:
    """Write the five values of `ramps` into the first channels, read by `readout` [5, channels].

    Behind an enlargement by repetition, weights of 1, 2, 1 interpolate a ramp linearly. Where the neighbour would lie
    outside of the picture, the padding is 0 and the ramp's next value half the picture's side plus half a cell; that
    constant's two neighbours cancel each other elsewhere. `half_cell` of this level, in those of the coarsest.
    """
    held.rows(conv, slice(0, COARSE))
    channels = slice(0, readout.shape[1])
    for axis in (0, 1):
        beyond = readout[2 + axis] + half_cell * readout[4]
        taps = ((0.25, 0.25), (0.5, 0.0), (0.25, -0.25))
        for at, (ramp, edge) in enumerate(taps):
            place = (1, at) if axis == 0 else (at, 1)
            conv.weight[axis, channels, place[0], place[1]] = ramp * readout[axis] + edge * beyond
    conv.weight[2:5, channels, 1, 1] = readout[2:]


def _pass_through(resnet: Any, width: int, held: Reserved) -> None:
    """Copy the first channels unchanged."""
    held.rows(resnet.conv2, slice(0, width))
    held.rows(resnet.conv_shortcut, slice(0, width))
    resnet.conv_shortcut.weight[:width, :width, 0, 0] = torch.eye(width)


def _init_squares(resnet: Any, held: Reserved) -> None:
    """X and Y unchanged, and their squares; see `_calibrate_squares` for the missing weights."""
    group = slice(0, _GROUP)
    # For mean squares of 2/3 / 2 of X and Y at scale 1.
    square = 2 / 3 * sum(scale**2 for scale in SCALES) * 2
    first_pin = 4 * len(SCALES)
    pins = FINE - first_pin
    held.set(resnet.norm1.weight, slice(0, first_pin), math.sqrt((square + pins * FINE_PIN**2) / FINE))
    held.set(resnet.norm1.weight, slice(first_pin, FINE), 0.0)
    held.set(resnet.norm1.bias, slice(0, FINE), 0.0)
    held.unread(resnet.conv_shortcut, slice(first_pin, FINE))
    for layer in (resnet.conv1, resnet.time_emb_proj):
        held.rows(layer, group)
    pinned = _GROUP - 8
    resnet.conv1.bias[8:_GROUP] = torch.tensor([_PIN, -_PIN]).repeat(pinned // 2)
    held.set(resnet.norm2.weight, slice(0, 8), _PIN * math.sqrt(pinned / _GROUP))
    held.set(resnet.norm2.weight, slice(8, _GROUP), 0.0)
    held.set(resnet.norm2.bias, group, 0.0)
    for layer in (resnet.conv2, resnet.conv_shortcut):
        held.rows(layer, slice(0, RESERVED))
    # Squares in two parts, the second 2^-10 of the first: together they are more exact than half precision.
    for axis, square_of in enumerate((_XX, _YY)):
        for part, weight in enumerate((1.0, 2.0**-10)):
            plus = 4 * axis + 2 * part
            resnet.conv2.weight[square_of, plus : plus + 2, 1, 1] = torch.tensor([weight, -weight])
    resnet.conv_shortcut.weight[_X, 0] = resnet.conv_shortcut.weight[_Y, 2] = 1 / SCALES[0]
    resnet.conv_shortcut.bias[_ONE] = 1
    resnet.conv_shortcut.bias[_ZERO + 1 : _GROUP] = torch.tensor([_PIN, -_PIN]).repeat(7)
    resnet.conv_shortcut.bias[PAINTED.stop : RESERVED] = torch.tensor([1.0, -1.0]).repeat(8)


def _calibrate_squares(resnet: Any) -> None:
    """Fit the weights that add the activations of ±X and ±Y at all scales up to the squares, in two parts."""
    x = torch.linspace(-1.6, 1.6, 1601, dtype=torch.float64)
    scale = _norm_scale(resnet, torch.tensor(2 / 3))
    terms = torch.stack([_even(scale * a * x) for a in SCALES], 1)
    behind = float(resnet.norm2.weight[0]) / math.sqrt(_PIN**2 * (_GROUP - 8) / _GROUP)
    columns = torch.cat((terms, torch.ones(len(x), 1)), 1)
    weights = torch.linalg.lstsq(columns, x**2 / behind).solution
    high = weights.half().double()
    low = ((weights - high) * 2**10).half().double()
    for axis in (0, 1):
        for part, values in enumerate((high, low)):
            for sign_at, sign in enumerate((1, -1)):
                row = 4 * axis + 2 * part + sign_at
                for number in range(len(SCALES)):
                    first = 4 * number + 2 * axis
                    resnet.conv1.weight[row, first : first + 2, 1, 1] = sign * float(values[number])
                resnet.conv1.bias[row] = sign * float(values[-1])


def _norm_scale(resnet: Any, both_squares: Tensor) -> float:
    """What the first norm multiplies its reserved channels by; `both_squares`: mean X² plus mean Y²."""
    squares = 2 * both_squares * sum(scale**2 for scale in SCALES)
    pins = FINE - 4 * len(SCALES)
    return float(resnet.norm1.weight[0] / ((squares + pins * FINE_PIN**2) / FINE).sqrt())


def _even(x: Tensor) -> Tensor:
    return F.silu(x) + F.silu(-x)


def _init_transformer(transformer: Any, held: Reserved) -> None:
    """Bring the positions into the transformer, and the painting out of it."""
    reserved, inner = slice(0, RESERVED), slice(0, _INNER)
    pins = _GROUP - 6
    held.set(transformer.norm.weight, slice(0, 6), _PIN * math.sqrt(pins / _GROUP))
    held.set(transformer.norm.weight, slice(6, PAINTED.start), 0.0)
    held.set(transformer.norm.weight, PAINTED, 1.0)
    held.set(transformer.norm.weight, slice(PAINTED.stop, RESERVED), 0.0)
    held.set(transformer.norm.bias, reserved, 0.0)
    block = transformer.transformer_blocks[0]
    for layer in (transformer.proj_in, block.attn1.to_out[0], block.attn2.to_out[0], block.ff.net[2]):
        held.rows(layer, inner)
    held.rows(transformer.proj_out, reserved)
    entering = transformer.proj_in.weight
    for channel in (_X, _Y, _XX, _YY, _ONE):
        entering[channel, channel], entering[channel, _ZERO] = 1, -1
    for channel, sign in zip(range(_PINS.start, _PINS.stop), (1, -1) * 3, strict=True):
        entering[channel, _ONE], entering[channel, _ZERO] = sign * _INNER_PIN, -sign * _INNER_PIN
    transformer.proj_out.weight[PAINTED, _CANVAS : _CANVAS + 4] = torch.eye(4)
    count = _PINS.stop - _PINS.start
    width = transformer.proj_in.out_features
    divisor = _INNER_PIN * math.sqrt(count / width)
    head = width // HEADS
    for norm, scale in ((block.norm2, math.sqrt(head)), (block.norm3, 1.0)):
        norm.weight.fill_(divisor)
        held.set(norm.weight, inner, divisor * scale)
        held.set(norm.bias, inner, 0.0)


def _init_rows(block: Any, to_k: Tensor, to_v: Tensor, number: int, held: Reserved) -> None:
    """The cross-attention: rows of the grids by Y."""
    attention = block.attn2
    for layer in (attention.to_q, attention.to_k, attention.to_v, attention.to_out[0]):
        held.rows(layer, slice(0, layer.out_features))
    wide = attention.to_q.out_features // HEADS
    pitches = 1 / PITCH
    zeros = METHODS["high-fidelity"].num_zero
    # Gaussians one pitch apart add up to the root.
    amplitude = (zeros + math.exp(_LOGIT)) / math.exp(_LOGIT) / math.sqrt(math.pi / _SHARPNESS) / WEIGHT / GUIDANCE
    step = LUMA[0] / CHROMA[0]
    for head in range(HEADS):
        at = wide * head
        query = attention.to_q.weight[at : at + wide]
        for row, (channel, factor) in enumerate(((_Y, pitches), (_YY, pitches**2), (_ONE, 1), (_X, 1))):
            query[row, channel], query[row, _ZERO] = factor, -factor
        # Logit minus sharpness times (Y - first - step * token)^2, by powers of the token's number.
        luma = HEADS, head + _FIRST_ROW, _SHARPNESS
        chroma = 2 * step, step * (head // 4) + _FIRST_ROW + (step - 1) / 2, _SHARPNESS / step**2
        for constants, (along, first, sharpness) in ((TAP_CONSTANTS, luma), (BODY_CONSTANTS, chroma)):
            linear, square = 2 * sharpness, -sharpness
            to_k[at, constants] = torch.tensor([linear * first, linear * along, 0])
            to_k[at + 1, constants] = torch.tensor([square, 0, 0])
            to_k[at + 2, constants] = torch.tensor(
                [_LOGIT + square * first**2, 2 * square * first * along, square * along**2]
            )
        columns = LUMA[1] // 2
        for column in range(columns):
            to_v[at + column, head * LUMA[1] + number * columns + column] = amplitude
            attention.to_out[0].weight[_COLUMNS + column, at + column] = 1
        for tint in range(4):
            to_v[at + columns + tint, BODY_CONTENT.start + 8 * head + 4 * number + tint] = amplitude
            attention.to_out[0].weight[_TINTS + 4 * (head % 4) + tint, at + columns + tint] = 1
        attention.to_k.weight[at + 2, TEXT_CONSTANT] = math.log(76) / 2
        attention.to_k.weight[at + 3, TEXT_CONSTANT] = _TEXT_SLOPE
    attention.to_v.weight[:, TEXT_CONSTANT] = _TEXT_VALUE


def _init_columns(block: Any, number: int, held: Reserved) -> None:
    """The feed-forward layer: columns of the grids by X, and a dome."""
    enter, leave = block.ff.net[0].proj, block.ff.net[2]
    gates = enter.out_features // 2
    columns, pitches = LUMA[1] // 2, 1 / PITCH
    units: list[tuple[int, float, float, int, float]] = []  # channel, centre, sharpness, canvas channel, weight
    for column in range(columns):
        centre = number * columns + column - (LUMA[1] - 1) / 2
        units.append((_COLUMNS + column, centre, 1.0, 0, 2.0))
    for group in range(4):
        for tint in range(4):
            column = 8 * (group % 2) + 4 * number + tint
            centre = 2 * column + 1 - LUMA[1] / 2
            units.append((_TINTS + 4 * group + tint, centre, 0.25, 1 + group // 2, 2.0))
    gain = 1 / _coverage()
    count = len(units) + 1
    for rows in (slice(0, count), slice(gates, gates + count)):
        held.rows(enter, rows)
    for unit, (channel, centre, sharpness, canvas, weight) in enumerate(units):
        enter.weight[unit, channel], enter.weight[unit, _ZERO] = 1, -1
        gate = enter.weight[gates + unit]
        gate[_X], gate[_XX] = 2 * sharpness * centre * pitches, -sharpness * pitches**2
        gate[_ONE] = _COLUMN_GATE - sharpness * centre**2
        gate[_ZERO] = -gate[_X] - gate[_XX] - gate[_ONE]
        leave.weight[_CANVAS + canvas, unit] = gain * weight
    if number == 0:
        x, y, wide, high = _DOME
        enter.weight[count - 1, _ONE], enter.weight[count - 1, _ZERO] = 1, -1
        gate = enter.weight[gates + count - 1]
        for channel, square, centre, axis in ((_X, _XX, x, wide), (_Y, _YY, y, high)):
            gate[channel], gate[square] = 8 * centre * pitches / axis**2, -4 * pitches**2 / axis**2
            gate[_ONE] -= 4 * centre**2 / axis**2
        gate[_ONE] += 4
        gate[_ZERO] = -gate.sum() + gate[_ZERO]
        leave.weight[_CANVAS + 3, count - 1] = 0.25


def _coverage() -> float:
    """Mean over X of what all columns' gates add up to."""
    u = torch.linspace(-8, 8, 1601)
    return float(F.gelu(_COLUMN_GATE - u**2).mean() * 16)


def dome(x: Tensor, y: Tensor) -> Tensor:
    """What the first transformer paints beside the grids, at places in pitches: about 1 in the face, 0 outside."""
    left, top, wide, high = _DOME
    return F.gelu(4 * (1 - ((x - left) / wide) ** 2 - ((y - top) / high) ** 2)) / 4


def amplitude(style: FaceStyle) -> float:
    """With which the transformers paint the grids' values, relative to the values."""
    zeros = METHODS[style].num_zero + math.exp(_LOGIT)
    return (METHODS["high-fidelity"].num_zero + math.exp(_LOGIT)) / zeros / GUIDANCE


def _init_flag(transformer: Any, to_v: Tensor, held: Reserved) -> None:
    """Tell the middle block how many zero tokens there are: their share of the attention thins a constant."""
    attention = transformer.transformer_blocks[0].attn2
    wide = slice(0, attention.to_q.out_features // HEADS)
    for layer in (attention.to_q, attention.to_v):
        held.rows(layer, wide)
    attention.to_v.weight[wide, TEXT_CONSTANT] = 1
    to_v[wide, TAP_CONSTANTS.start] = to_v[wide, BODY_CONSTANTS.start] = _FLAG


assert TOKENS * HEADS == LUMA[0] == 4 * CHROMA[0]
