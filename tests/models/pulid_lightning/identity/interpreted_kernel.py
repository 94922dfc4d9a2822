"""Runs the kernel of the identity's attention by Triton's interpreter, which computes on the CPU, and in torch.

In a process of its own with TRITON_INTERPRET=1: Triton's own functions are made for the interpreter when it is
imported. Prints for each case the largest differences between both, as a line of JSON.
"""

from __future__ import annotations

import json
from itertools import product
from unittest.mock import patch

import torch
from torch import Tensor

from models.pulid_lightning import attention
from models.pulid_lightning.attention import IdentityContext, attend_with_identity
from models.pulid_lightning.identity.attention_kernel import attend_and_sum
from models.runtime.unet import TextContext

HEADS = 2
SIZES = ((9, 10), (64, 32), (150, 26), (65, 53))
"""Queries, and tokens."""


def inputs(queries: int, tokens: int, head: int, scale: float) -> tuple[Tensor, IdentityContext]:
    """Two rows in half precision; keys and values are views of one tensor, as projections leave them."""
    draw = torch.Generator().manual_seed(queries + tokens + head)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw).half()

    width = HEADS * head
    query = normal(2, queries, width) * scale
    key, value = normal(2, tokens, 2 * width).split(width, 2)
    mask = torch.full((1, 1, tokens), -1.0)
    mask[..., :5] = 0
    return query, IdentityContext(TextContext(normal(2, 7, width), normal(2, 7, width)), key, value, mask)


def differences(query: Tensor, context: IdentityContext) -> dict[str, float]:
    """Of the attention, relative to queries of the sums, and of the whole with the text's."""
    text = attention.attention(query, *context.text[:2], HEADS)
    found, parts = attend_and_sum(query, context.key, context.value, text, context.ortho_mask.flatten(), HEADS)
    delta, dot, square, factor = attention._identity_and_sums(query, text, context, HEADS)
    (queries, width), sums = query.shape[1:], parts.sum(1, keepdim=True)
    usual = attend_with_identity(query, context, HEADS)
    with patch.object(attention, "_kernel_takes", lambda *_: True):
        with_kernel = attend_with_identity(query, context, HEADS)
    pairs = {
        "attention": (found, delta),
        "dot": (sums[..., :width] / queries, dot / queries),
        "square": (sums[..., width:-1] / queries, square / queries),
        "factor": (sums[..., -1:] / queries, factor),
        "whole": (with_kernel, usual),
    }
    return {name: float((a.float() - b.float()).abs().max()) for name, (a, b) in pairs.items()}


if __name__ == "__main__":
    for (queries, tokens), head, scale in product(SIZES, (32, 64), (1.0, 40.0)):
        case = f"{queries} queries, {tokens} tokens, heads of {head}, times {scale:g}"
        print(json.dumps({"case": case, **differences(*inputs(queries, tokens, head, scale))}))  # noqa: T201 - its output
