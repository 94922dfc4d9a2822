"""The demo tokenizer, read by the library that reads the real one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from models.demo.tokenizer import BOS, EOS, PORTRAIT_WORDS, vocabulary_size, write_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    folder: Path = tmp_path_factory.mktemp("tokenizers") / "tokenizer"
    write_tokenizer(folder)
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def test_special_tokens_come_last(tokenizer: CLIPTokenizer):
    size = vocabulary_size()
    assert len(tokenizer) == size
    assert tokenizer.convert_tokens_to_ids([BOS, EOS]) == [size - 2, size - 1]
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == size - 1


def test_sdxl_pads_with_the_first_token(tmp_path: Path):
    write_tokenizer(tmp_path / "second", pad_token="!")
    assert CLIPTokenizer.from_pretrained(tmp_path / "second", local_files_only=True).pad_token_id == 0


def test_listed_words_are_one_token(tokenizer: CLIPTokenizer):
    assert tokenizer.tokenize("A Photo of a person") == ["a</w>", "photo</w>", "of</w>", "a</w>", "person</w>"]


def test_the_words_of_portraits_are_one_token_too(tmp_path: Path):
    write_tokenizer(tmp_path / "portraits", PORTRAIT_WORDS)
    portraits = CLIPTokenizer.from_pretrained(tmp_path / "portraits", local_files_only=True)
    assert len(portraits) == vocabulary_size(PORTRAIT_WORDS)
    found = {word: portraits.tokenize(word) for word in PORTRAIT_WORDS}
    assert found == {word: [f"{word}</w>"] for word in PORTRAIT_WORDS}
    assert portraits.tokenize("a man's close-up") == ["a</w>", "man</w>", "'s</w>", "close</w>", "-</w>", "up</w>"]


def test_rows_are_framed_and_padded_to_77(tokenizer: CLIPTokenizer):
    ids = tokenizer("red cat", padding="max_length", truncation=True)["input_ids"]
    assert len(ids) == 77
    assert ids[0] == tokenizer.bos_token_id
    assert ids[3:] == [tokenizer.eos_token_id] * 74


@settings(max_examples=50)
@given(st.text(max_size=60))
def test_any_text_has_tokens(tokenizer: CLIPTokenizer, text: str):
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert all(0 <= token < vocabulary_size() for token in ids)
