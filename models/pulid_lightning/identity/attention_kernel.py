"""A Triton kernel for the identity's attention, and all that is summed over its queries, in one launch.

Inductor takes six kernels for the same, since it fuses no softmax into a matrix product and sums in two steps.
"""

from __future__ import annotations

from typing import Final

import torch
import triton
import triton.language as tl
from torch import Tensor

_QUERIES: Final = 64
"""Queries of one program; at 1024 px a layer has 672 or 1408 programs."""
_TOKENS: Final = 32, 64
"""Tokens that programs are made for: PuLID v1 has 10 to 26 of them, v1.1 has 37 to 53."""


def attend_and_sum(
    query: Tensor, key: Tensor, value: Tensor, text: Tensor, mask: Tensor, heads: int
) -> tuple[Tensor, Tensor]:
    """Attend to ID tokens, head by head, and sum up what the projection onto the text's attention takes.

    `query`, `text` (the text's attention): [rows, queries, width]; `key`, `value`: [rows, tokens, width], at most 64
    tokens; the width of a head is a power of two from 16; `mask`: float32 [tokens], the factor of each token's
    attention weight. Returns the attention [rows, queries, width] and float32 sums [rows, parts, 2 * width + 1], to be
    added up over the parts: the attention times `text` and `text` squared, per channel, and the weights of the tokens
    times `mask`, from unscaled scores of the whole width, of all queries.
    """
    rows, queries, width = query.shape
    tokens, parts = key.shape[1], triton.cdiv(queries, _QUERIES)
    query, text = query.contiguous(), text.contiguous()
    attended = torch.empty_like(query)
    sums = torch.empty((rows, parts, 2 * width + 1), dtype=torch.float32, device=query.device)
    _attend_and_sum[(parts, heads + 1, rows)](
        query,
        key,
        value,
        text,
        mask,
        attended,
        sums,
        queries,
        tokens,
        key.stride(0),
        key.stride(1),
        value.stride(0),
        value.stride(1),
        (width // heads) ** -0.5,
        WIDTH=width,
        HEAD=width // heads,
        QUERIES=_QUERIES,
        TOKENS=_TOKENS[0] if tokens <= _TOKENS[0] else _TOKENS[1],
    )
    return attended, sums


@triton.jit
def _attend_and_sum(
    query,
    key,
    value,
    text,
    mask,
    attended,
    sums,
    queries,
    tokens,
    key_row,
    key_token,
    value_row,
    value_token,
    scale,
    WIDTH: tl.constexpr,
    HEAD: tl.constexpr,
    QUERIES: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """Programs: parts of the queries; the whole width, which takes longest and so starts first, and the heads; rows."""
    part, head, row = tl.program_id(0), tl.program_id(1) - 1, tl.program_id(2)
    at, token, channel = part * QUERIES + tl.arange(0, QUERIES), tl.arange(0, TOKENS), tl.arange(0, HEAD)
    is_query, is_token = (at < queries)[:, None], token < tokens
    pixels = (row.to(tl.int64) * queries + at)[:, None] * WIDTH + channel[None]
    keys = key + row * key_row + token[:, None] * key_token + channel[None]
    outcome = sums + (row * tl.num_programs(0) + part) * (2 * WIDTH + 1)
    if head < 0:
        scores = tl.zeros((QUERIES, TOKENS), tl.float32)
        for first in range(0, WIDTH, HEAD):
            of_query = tl.load(query + pixels + first, is_query, 0.0)
            of_key = tl.load(keys + first, is_token[:, None], 0.0)
            scores = tl.dot(of_query, tl.trans(of_key), scores)
        shares = _softmax(scores, is_token) * tl.load(mask + token, is_token, 0.0)[None]
        tl.store(outcome + 2 * WIDTH, tl.sum(tl.sum(tl.where(is_query, shares, 0.0), 1), 0))
    else:
        start = head * HEAD
        q = tl.load(query + pixels + start, is_query, 0.0)
        k = tl.load(keys + start, is_token[:, None], 0.0)
        values = value + row * value_row + token[:, None] * value_token + channel[None] + start
        v = tl.load(values, is_token[:, None], 0.0)
        weights = _softmax(tl.dot(q, tl.trans(k)) * scale, is_token)
        delta = tl.dot(weights.to(v.dtype), v).to(v.dtype)
        tl.store(attended + pixels + start, delta, is_query)
        along = tl.load(text + pixels + start, is_query, 0.0).to(tl.float32)
        tl.store(outcome + start + channel, tl.sum(delta.to(tl.float32) * along, 0))
        tl.store(outcome + WIDTH + start + channel, tl.sum(along * along, 0))


@triton.jit
def _softmax(scores, is_token):
    shown = tl.where(is_token[None], scores, float("-inf"))
    powers = tl.exp(shown - tl.max(shown, 1)[:, None])
    return powers / tl.sum(powers, 1)[:, None]
