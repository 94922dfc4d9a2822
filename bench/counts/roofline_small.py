"""The least that the small networks compute at full size, as formulas: FLOP, a multiplication with its sum as 2."""

from __future__ import annotations

from itertools import pairwise

_RSU = (
    # Depth (0: four levels without pooling), channels in, inside, out, side in parts of the picture's.
    (7, 64, 32, 64, 2),
    (6, 64, 32, 128, 4),
    (5, 128, 64, 256, 8),
    (4, 256, 128, 512, 16),
    (0, 512, 256, 512, 32),
    (0, 512, 256, 512, 64),
    (0, 1024, 256, 512, 32),
    (4, 1024, 128, 256, 16),
    (5, 512, 64, 128, 8),
    (6, 256, 32, 64, 4),
    (7, 128, 16, 64, 2),
)
"""RMBG-1.4's nested blocks (IC-Light specification section 2)."""


def linear(tokens: int, width: int, wide: int) -> int:
    """A matrix product of [tokens, width] and [width, wide]."""
    return 2 * tokens * width * wide


def mlp(tokens: int, *widths: int) -> int:
    """Linear layers from width to width."""
    return sum(linear(tokens, width, wide) for width, wide in pairwise(widths))


def conv(height: int, width: int, channels: int, wide: int, kernel: int = 3) -> int:
    """A convolution whose result is of that height and width."""
    return linear(height * width, kernel * kernel * channels, wide)


def eva_tower(width: int = 1024, depth: int = 24, inner: int = 2730, grid: int = 24, patch: int = 14) -> int:
    """EVA02-CLIP-L at 336 px, one picture (PuLID specification section 3)."""
    tokens = grid * grid + 1
    attending = 4 * linear(tokens, width, width) + 2 * linear(tokens, width, tokens)
    layers = depth * (attending + 3 * linear(tokens, width, inner))
    return conv(grid, grid, 3, width, patch) + layers + linear(1, width, 768)


def id_encoder(patches: int = 576, hidden: int = 1024, context: int = 2048) -> int:
    """PuLID version 1's encoder, one face (specification section 4). What stands for no face is known beforehand."""
    body = mlp(1, 1280, hidden, hidden, 5 * context)
    return body + 5 * mlp(1 + patches, hidden, hidden, hidden, context)


def bisenet(height: int, width: int) -> int:
    """The face parser, one picture of that size in px (PuLID specification section 2 C)."""

    def at(stride: int, channels: int, wide: int, kernel: int = 3) -> int:
        return conv(height // stride, width // stride, channels, wide, kernel)

    def stage(stride: int, channels: int, wide: int) -> int:
        return at(stride, channels, wide) + 3 * at(stride, wide, wide) + at(stride, channels, wide, 1)

    backbone = at(2, 3, 64, 7) + 4 * at(4, 64, 64) + stage(8, 64, 128) + stage(16, 128, 256) + stage(32, 256, 512)
    context = at(16, 256, 128) + at(32, 512, 128) + at(16, 128, 128) + at(8, 128, 128)
    fused = at(8, 256, 256, 1) + at(8, 256, 256) + at(8, 256, 19, 1)
    gates = 2 * linear(1, 128, 128) + linear(1, 512, 128) + mlp(1, 256, 64, 256)
    return backbone + context + fused + gates


def rmbg(height: int, width: int) -> int:
    """The matting network, one picture of that size in px; only the finest of its side outputs."""
    blocks = sum(_rsu(depth, a, b, c, -(-height // part), -(-width // part)) for depth, a, b, c, part in _RSU)
    return conv(height // 2, width // 2, 3, 64) + blocks + conv(height // 2, width // 2, 64, 1)


def _rsu(depth: int, channels: int, inner: int, wide: int, height: int, width: int) -> int:
    """A nested block: in, down, and up again over pairs of levels; the two deepest are of one size."""
    levels = depth or 4
    sizes = [(-(-height // 2**step), -(-width // 2**step)) for step in range(levels - 1)]
    sizes = [*sizes, sizes[-1]] if depth else [(height, width)] * levels
    down = conv(*sizes[0], wide, inner) + sum(conv(*size, inner, inner) for size in sizes[1:])
    up = conv(*sizes[0], 2 * inner, wide) + sum(conv(*size, 2 * inner, inner) for size in sizes[1:-1])
    return conv(height, width, channels, wide) + down + up
