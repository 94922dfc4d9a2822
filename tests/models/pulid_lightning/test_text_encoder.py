"""Weights on text embeddings, and both branches in one batch."""

from __future__ import annotations

import torch

from models.pulid_lightning.prompt import CHUNK, TokenChunks
from models.pulid_lightning.text_encoder import TextEmbeddings, encode_chunks, stack_prompts

EMPTY = [1, 2, *[0] * 75]


def stub(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A token's state is its id, and ten times its id."""
    states = ids[..., None].float() * torch.tensor([1.0, 10.0])
    return states, states.sum(1)


def chunks(rows: list[list[int]], weights: dict[tuple[int, int], float]) -> TokenChunks:
    table = [[weights.get((row, place), 1.0) for place in range(CHUNK)] for row in range(len(rows))]
    return TokenChunks(rows, table, EMPTY)


def test_a_weight_moves_away_from_the_empty_prompt():
    row = [1, 7, 8, 2, *[0] * 73]
    states, _ = encode_chunks(chunks([row], {(0, 1): 1.5, (0, 2): 0.5}), stub)
    assert states.shape == (1, CHUNK, 2)
    assert states[0, 1].tolist() == [2 + 1.5 * (7 - 2), 20 + 1.5 * (70 - 20)]
    assert states[0, 2].tolist() == [4, 40]
    assert states[0, 0].tolist() == [1, 10]


def test_chunks_follow_each_other_and_the_first_is_pooled():
    rows = [[1, 5, 2, *[0] * 74], [1, 6, 2, *[0] * 74]]
    states, pooled = encode_chunks(chunks(rows, {}), stub)
    assert states.shape == (1, 2 * CHUNK, 2)
    assert states[0, CHUNK + 1].tolist() == [6, 60]
    assert pooled.tolist() == [[8, 80]]


def test_the_empty_prompt_is_only_encoded_where_it_is_needed():
    seen = []

    def count(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(len(ids))
        return stub(ids)

    row = [1, 7, 2, *[0] * 74]
    encode_chunks(chunks([row], {}), count)
    encode_chunks(chunks([row], {(0, 1): 2.0}), count)
    assert seen == [1, 2]


def branch(tokens: int) -> TextEmbeddings:
    return TextEmbeddings(torch.full((1, tokens, 3), float(tokens)), torch.full((1, 2), float(tokens)))


def test_prompts_of_one_length_need_no_bias():
    text, bias = stack_prompts([branch(77), branch(77)])
    assert bias is None
    assert text.tokens.shape == (2, 77, 3)


def test_attention_is_kept_from_the_padding_of_shorter_prompts():
    text, bias = stack_prompts([branch(77), branch(154), branch(77)])
    assert bias is not None
    assert bias.shape == (3, 1, 1, 154)
    assert (bias == 0).sum(-1).flatten().tolist() == [77, 154, 77]
    assert bias[0, 0, 0, 77:].tolist() == [-torch.inf] * 77
    assert text.tokens.shape == (3, 154, 3)
    assert text.pooled[:, 0].tolist() == [77, 154, 77]
