"""Text embeddings in chunks of 75 tokens, without truncation (IC-Light specification section 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from models.ic_light.params import Params

CHUNK: Final = 75
"""Text tokens per chunk; start and end token come on top."""

SEPARATOR: Final = ", "

Chunks = list[list[int]]
"""A tokenised text: rows of `CHUNK` + 2 ids."""
EncodeRow = Callable[[Any, Tensor], Tensor]
"""(text encoder, ids [1, 77]) -> hidden states; `final_states`, captured or not."""


def positive_prompt(params: Params) -> str:
    """Join prompt and appended prompt, with the comma even if either is empty."""
    return f"{params.prompt}{SEPARATOR}{params.appended_prompt}"


def tokenise(tokenizer: Any, text: str) -> Chunks:
    """Tokenise and split into chunks: start id, up to 75 ids, padding with the end id.

    A text without tokens is one empty chunk; the reference fails.
    """
    ids = tokenizer(text, truncation=False, add_special_tokens=False, verbose=False)["input_ids"]
    # Padded with the end id, whatever the tokenizer's padding id is.
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    pieces = [ids[at : at + CHUNK] for at in range(0, len(ids), CHUNK)] or [[]]
    return [[start, *piece, *[end] * (CHUNK + 1 - len(piece))] for piece in pieces]


def final_states(text_encoder: Any, ids: Tensor) -> Tensor:
    """Of one row of ids the final-norm hidden states [1, 77, width]; an `EncodeRow`."""
    # No mask: padding takes part in attention, as in training.
    return torch.as_tensor(text_encoder(ids).last_hidden_state)


def encode(run: EncodeRow, text_encoder: Any, chunks: Chunks) -> Tensor:
    """Encode the chunks one by one, so that one graph serves texts of any length: [chunks, 77, width]."""
    ids = torch.tensor(chunks, device=text_encoder.device)
    return torch.cat([run(text_encoder, row) for row in torch.split(ids, 1)])


def pair(positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Repeat the chunks of the shorter of two embeddings cyclically: each [1, 77 * most chunks, width]."""
    most = max(len(positive), len(negative))
    return _cycle(positive, most), _cycle(negative, most)


def _cycle(chunks: Tensor, count: int) -> Tensor:
    repeated = chunks[torch.arange(count, device=chunks.device) % len(chunks)]
    return repeated.flatten(0, 1)[None]
