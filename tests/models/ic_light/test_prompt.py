"""Texts of any length become pairs of embeddings of one length."""

from __future__ import annotations

import pytest
import torch

from models.ic_light.networks import Networks
from models.ic_light.params import Params
from models.ic_light.prompt import encode, final_states, pair, positive_prompt, tokenise


@pytest.mark.parametrize(
    ("prompt", "appended", "joined"), [("a cat", "best quality", "a cat, best quality"), ("", "", ", ")]
)
def test_the_comma_is_always_there(prompt: str, appended: str, joined: str):
    assert positive_prompt(Params(subject_image="x", prompt=prompt, appended_prompt=appended)) == joined


@pytest.mark.parametrize(("words", "chunks"), [(0, 1), (1, 1), (75, 1), (76, 2), (150, 2), (151, 3)])
def test_texts_are_split_into_chunks_of_75_without_loss(networks: Networks, words: int, chunks: int):
    tokenizer = networks.tokenizer
    rows = tokenise(tokenizer, "cat " * words)
    assert len(rows) == chunks
    assert all(len(row) == 77 and row[0] == tokenizer.bos_token_id for row in rows)
    cat = tokenizer.convert_tokens_to_ids("cat</w>")
    assert sum(row.count(cat) for row in rows) == words
    filled = 1 + words - 75 * (chunks - 1)
    assert set(rows[-1][filled:]) == {tokenizer.eos_token_id}


@torch.inference_mode()
def test_embeddings_come_from_the_last_layer_after_its_norm(networks: Networks):
    ids = tokenise(networks.tokenizer, "a cat")
    hidden = encode(final_states, networks.text_encoder, ids)
    assert hidden.shape == (1, 77, networks.text_encoder.config.hidden_size)
    again = networks.text_encoder(torch.tensor(ids), output_hidden_states=True)
    assert not torch.allclose(hidden, again.hidden_states[-2], atol=1e-3)
    assert torch.equal(hidden, again.last_hidden_state)


def test_the_shorter_text_is_repeated_in_turn():
    positive = torch.arange(5.0).view(5, 1, 1).expand(5, 77, 1)
    negative = torch.arange(10.0, 12.0).view(2, 1, 1).expand(2, 77, 1)
    long, short = pair(positive, negative)
    assert long.shape == short.shape == (1, 5 * 77, 1)
    assert long[0, ::77, 0].tolist() == [0, 1, 2, 3, 4]
    assert short[0, ::77, 0].tolist() == [10, 11, 10, 11, 10]
