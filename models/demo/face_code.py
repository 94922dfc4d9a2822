"""What the demo networks pass on of a face: a grid of its brightness and a coarser one of its colours, as ID tokens.

Both grids cover one box of the aligned face: of the vision tower's 512 px crop the brightness, `LUMA` numbers, and of
the recogniser's 112 px crop the colour differences B - Y and R - Y, `CHROMA` numbers each. Every step from the crops to
the tokens is linear, so it holds for any face, none of which has to be learned. The networks that do so are built in
`face_recogniser` and `identity`; `tokens` says what they come to, and the demo UNet paints what the tokens say.

The first five tokens are those of the recogniser's embedding, the others one for each tap of the tower. Both
kinds have channels of their own for their content, and constants that tell their kind and number.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.pulid_lightning.identity.face import CROP_SIDE, TEMPLATE

LUMA: Final = (40, 32)
"""Rows and columns of the brightness grid: half patches of the tower."""
CHROMA: Final = (10, 16)
"""Rows and columns of each of the two grids of colour differences."""
THUMBNAIL: Final = (12, 16)
"""Rows and columns of the grid of brightness that fills the rest of the recogniser's embedding."""
TOWER_SIDE: Final = 336
"""Side in px of the tower's input."""
HALF_PATCH: Final = 7
"""Side in px, at the tower's input."""
LUMA_AT: Final = (4, 8)
"""Row and column of the grid's first half patch."""
BOX: Final = tuple(
    CROP_SIDE / TOWER_SIDE * HALF_PATCH * at
    for at in (LUMA_AT[1], LUMA_AT[0], LUMA_AT[1] + LUMA[1], LUMA_AT[0] + LUMA[0])
)
"""Left, top, right and bottom of the grids in px of the 512 px crop."""
TOKENS: Final = 5
"""Tokens of each kind."""
HEADS: Final = 8
"""Each token holds that many rows of its grids: row `HEADS * token + head` of brightness, one for each head."""
TAP_CONTENT: Final = slice(0, 256)
"""Channels of a tap's token with its eight rows of brightness; 0 in the others."""
BODY_CONTENT: Final = slice(256, 320)
"""Channels of an embedding's token with eight numbers for each head; 0 in the others."""
TAP_CONSTANTS: Final = slice(320, 323)
"""1, t and t² in token t of the tower; 0 in the others."""
BODY_CONSTANTS: Final = slice(323, 326)
"""1, b and b² in token b of the embedding; 0 in the others."""
CONTEXT_WIDTH: Final = 336
"""Width of a token; the channels behind the constants are 0."""
BLOCK: Final = 7
"""Side in px of the blocks of the recogniser's crop whose means it mixes, 16 x 16 blocks."""
_BLOCKS: Final = 16
_LUMA_WEIGHTS: Final = (0.299, 0.587, 0.114)
# insightface's alignment for 112 px: eyes, tip of the nose, corners of the mouth.
_RECOGNISER_TEMPLATE: Final = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)

Floats = NDArray[np.float32]


def chroma_slot(token: int, head: int) -> tuple[int, int, slice]:
    """Which colour difference, row and columns the eight numbers of `head` in a token of the embedding are."""
    row, group = divmod(HEADS * token + head, 4)
    return group // 2, row, slice(8 * (group % 2), 8 * (group % 2) + 8)


def tokens(luma: Tensor, chroma: Tensor) -> Tensor:
    """ID tokens [n, 10, context width] of grids of brightness [n, 40, 32] and colour differences [n, 2, 10, 16].

    Brightness is in -0.5..0.5; zeros give the unconditional tokens.
    """
    found = luma.new_zeros(len(luma), 2 * TOKENS, CONTEXT_WIDTH)
    number = torch.arange(TOKENS, device=luma.device)
    powers = torch.stack((number**0, number, number**2), -1).to(luma)
    found[:, :TOKENS, BODY_CONSTANTS] = powers
    found[:, TOKENS:, TAP_CONSTANTS] = powers
    found[:, TOKENS:, TAP_CONTENT] = luma.reshape(len(luma), TOKENS, -1)
    for token in range(TOKENS):
        for head in range(HEADS):
            difference, row, columns = chroma_slot(token, head)
            first = BODY_CONTENT.start + 8 * head
            found[:, token, first : first + 8] = chroma[:, difference, row, columns]
    return found


def embedding_weights() -> Floats:
    """The recogniser's linear map [512, 3 * 16 * 16] from block means of red, green, blue in -1..1, rows first.

    The outputs are both grids of colour differences, in units of the brightness, and the thumbnail.
    """
    differences = np.array([(0, 0, 1), (1, 0, 0)]) - np.array(_LUMA_WEIGHTS)
    grids = [(rows, mix / 2) for rows, mix in ((CHROMA, differences[0]), (CHROMA, differences[1]))]
    grids.append((THUMBNAIL, np.array(_LUMA_WEIGHTS) / 2))
    weights = []
    for (rows, columns), mix in grids:
        down, across = _resampling(rows, 1), _resampling(columns, 0)
        weights.append(np.einsum("c,ry,kx->rkcyx", mix, down, across).reshape(rows * columns, -1))
    return np.concatenate(weights).astype(np.float32)


def grids(crop: NDArray[np.uint8], recogniser_crop: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """Brightness [40, 32] and colour differences [2, 10, 16] of both aligned crops, RGB: what the networks compute."""
    grey = torch.from_numpy(crop @ np.array(_LUMA_WEIGHTS) / 255)[None, None]
    scaled = F.interpolate(grey, (TOWER_SIDE, TOWER_SIDE), mode="bicubic", antialias=True)
    halves = F.avg_pool2d(scaled, HALF_PATCH)[0, 0].numpy()
    luma = halves[LUMA_AT[0] : LUMA_AT[0] + LUMA[0], LUMA_AT[1] : LUMA_AT[1] + LUMA[1]] - 0.5
    blocks = recogniser_crop.reshape(_BLOCKS, BLOCK, _BLOCKS, BLOCK, 3).mean((1, 3)) / 127.5 - 1
    chroma = embedding_weights()[: 2 * CHROMA[0] * CHROMA[1]] @ blocks.transpose(2, 0, 1).reshape(-1)
    return luma.astype(np.float32), chroma.reshape(2, *CHROMA).astype(np.float32)


def box_in_recogniser_crop() -> NDArray[np.float64]:
    """Left, top, right and bottom of the box in px of the 112 px crop."""
    # The least-squares fit of one template's points to the other's, by scale and shift.
    theirs, ours = (points - points.mean(0) for points in (TEMPLATE, _RECOGNISER_TEMPLATE))
    scale = (theirs * ours).sum() / (ours * ours).sum()
    offset = TEMPLATE.mean(0) - scale * _RECOGNISER_TEMPLATE.mean(0)
    corners: NDArray[np.float64] = (np.array(BOX).reshape(2, 2) - offset) / scale
    return corners.reshape(4)


def _resampling(cells: int, axis: int) -> NDArray[np.float64]:
    """Weights [cells, 16] of the blocks in each cell of the box along an axis (0: x), by area; edges are repeated."""
    box = box_in_recogniser_crop() / BLOCK
    edges = np.linspace(box[axis], box[axis + 2], cells + 1)
    starts, ends = np.arange(_BLOCKS, dtype=float), np.arange(_BLOCKS, dtype=float) + 1
    starts[0], ends[-1] = -_BLOCKS, 2 * _BLOCKS
    overlap = np.minimum(edges[1:, None], ends) - np.maximum(edges[:-1, None], starts)
    shares: NDArray[np.float64] = overlap.clip(0) / np.diff(edges)[:, None]
    return shares
