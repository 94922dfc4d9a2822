"""Text embeddings with weights, from both of SDXL's text encoders (PuLID specification section 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.pulid_lightning.prompt import TokenChunks

Encode = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Token ids [rows, 77] give hidden states [rows, 77, width] and pooled embeddings [rows, pooled width]."""
EncodeRow = Callable[[Any, Tensor], tuple[Tensor, Tensor]]
"""The same as a function of a text encoder and of one row on its device; captured or not."""


@dataclass(frozen=True)
class TextEmbeddings:
    """One prompt for the UNet: `tokens` [1, 77 x chunks, context width] and `pooled` [1, pooled width]."""

    tokens: Tensor
    pooled: Tensor


@dataclass(frozen=True)
class PromptTokens:
    """One prompt, tokenised for each of the two encoders."""

    clip_l: TokenChunks
    clip_g: TokenChunks


def penultimate_states(encoder: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Of a CLIP text model of transformers the last but one hidden states, without the final norm; an `EncodeRow`."""
    output = encoder(ids, output_hidden_states=True)
    # CLIP-L as SDXL uses it has no projection; its pooled embedding is not looked at.
    pooled = output.text_embeds if "text_embeds" in output else output.pooler_output
    return output.hidden_states[-2], pooled


def row_by_row(encoder: Any, encode: EncodeRow = penultimate_states) -> Encode:
    """`encode` with this encoder, for any number of rows.

    One graph serves them all, and a row's numbers do not depend on what else is encoded, which the cache decides.
    """

    def encode_rows(ids: Tensor) -> tuple[Tensor, Tensor]:
        states, pooled = zip(*(encode(encoder, row) for row in torch.split(ids.to(encoder.device), 1)), strict=True)
        return torch.cat(states), torch.cat(pooled)

    return encode_rows


def encode_prompt(prompt: PromptTokens, clip_l: Encode, clip_g: Encode) -> TextEmbeddings:
    """Encode with both encoders, side by side along the width; the pooled embedding is CLIP-G's."""
    tokens_l, _ = encode_chunks(prompt.clip_l, clip_l)
    tokens_g, pooled = encode_chunks(prompt.clip_g, clip_g)
    return TextEmbeddings(torch.cat((tokens_l, tokens_g), -1), pooled)


def encode_chunks(chunks: TokenChunks, encode: Encode) -> tuple[Tensor, Tensor]:
    """Encode each chunk on its own: [1, 77 x chunks, width], and the pooled embedding [1, …] of the first.

    A weight moves a token's state away from (above 1) or towards (below 1) its place in the empty prompt.
    """
    rows = [*chunks.ids, chunks.empty] if chunks.weighted else chunks.ids
    states, pooled = encode(torch.tensor(rows))
    if chunks.weighted:
        states = _weighted(states[:-1], states[-1:], torch.tensor(chunks.weights, device=states.device)[..., None])
    return states.flatten(0, 1)[None], pooled[:1]


def _weighted(states: Tensor, empty: Tensor, weights: Tensor) -> Tensor:
    # In float32, since a weight such as 1.1 is not a number of half precision.
    moved = empty.float() + weights * (states.float() - empty.float())
    return torch.where(weights == 1, states, moved.to(states.dtype))


def stack_prompts(prompts: Sequence[TextEmbeddings]) -> tuple[TextEmbeddings, Tensor | None]:
    """All prompts in one batch, a row each.

    Prompts of different length are padded, and a bias [rows, 1, 1, tokens] comes along that keeps attention from the
    padding; else it is None.
    """
    pooled = torch.cat([prompt.pooled for prompt in prompts])
    rows = [prompt.tokens[0] for prompt in prompts]
    # The reference repeats both to a common length, which gives the same attention; that length has no bound.
    stacked = TextEmbeddings(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), pooled)
    lengths = {len(row) for row in rows}
    if len(lengths) == 1:
        return stacked, None
    bias = stacked.tokens.new_zeros(len(rows), 1, 1, max(lengths))
    for number, row in enumerate(rows):
        bias[number, ..., len(row) :] = -torch.inf
    return stacked, bias
