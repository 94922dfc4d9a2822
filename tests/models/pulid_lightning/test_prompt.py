"""ComfyUI's prompt syntax, and how tokens fill chunks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.pulid_lightning.prompt import CHUNK, TokenChunks, tokenize, weighted_segments


class Letters:
    """A tokenizer to which every letter is a token."""

    bos_token_id, eos_token_id, pad_token_id = 1, 2, 0

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        return [100 + ord(letter) for letter in text]


def tokens(prompt: str) -> TokenChunks:
    return tokenize(prompt, Letters())


def content(row: list[int]) -> int:
    """Number of tokens between start and end."""
    return row.index(2) - 1


@pytest.mark.parametrize(
    ("prompt", "segments"),
    [
        ("a photo", [("a photo", 1)]),
        ("", []),
        ("(a) b", [("a", 1.1), (" b", 1)]),
        ("((a))", [("a", pytest.approx(1.21))]),
        ("a (red:1.5) car", [("a ", 1), ("red", 1.5), (" car", 1)]),
        ("(a (b:1.2) c:1.5) d", [("a ", 1.5), ("b", 1.2), (" c", 1.5), (" d", 1)]),
        ("((a:1.5))", [("a", 1.5)]),
        (r"\(a\) (b\):1.2)", [("(a) ", 1), ("b)", 1.2)]),
        ("x (open", [("x ", 1), ("(open", 1)]),
        ("close) a", [("close) a", 1)]),
        ("(:1.3)", [(":1.3", 1.1)]),
        ("(word:abc)", [("word:abc", 1.1)]),
        ("(x:y:1.4)", [("x:y", 1.4)]),
        ("[a] (b:0)", [("[a] ", 1), ("b", 0)]),
        ("(a:-1)", [("a", -1)]),
        ("()", []),
    ],
)
def test_weights(prompt: str, segments: list[tuple[str, float]]):
    assert weighted_segments(prompt) == segments


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_only_finite_numbers_are_weights(number: str):
    assert weighted_segments(f"(a:{number})") == [(f"a:{number}", 1.1)]


def test_nesting_has_an_end():
    deep = "(" * 5000 + "a" + ")" * 5000
    ((text, weight),) = weighted_segments(deep)
    assert text.strip("()") == "a"
    assert 1 < weight < 50


def test_a_chunk_is_framed_and_padded():
    chunks = tokens("ab (c:1.5)")
    assert chunks.ids == [[1, 197, 198, 199, 2, *[0] * 72]]
    assert chunks.weights == [[1, 1, 1, 1.5, *[1.0] * 73]]
    assert chunks.empty == [1, 2, *[0] * 75]
    assert chunks.weighted


def test_the_empty_prompt_is_one_chunk():
    chunks = tokens("")
    assert chunks.ids == [chunks.empty]
    assert not chunks.weighted


def test_short_words_stay_whole():
    chunks = tokens(" ".join(["seven77"] * 11))
    assert [content(row) for row in chunks.ids] == [70, 7]


def test_long_words_are_cut():
    chunks = tokens("x" * 80)
    assert [content(row) for row in chunks.ids] == [75, 5]


def test_words_split_at_newlines_and_spaces():
    assert tokens("a\nb  c").ids == tokens("a b c").ids


@given(st.text(alphabet="ab (): \\\n1.", max_size=400))
def test_any_prompt_fills_whole_chunks(prompt: str):
    chunks = tokens(prompt)
    assert {len(row) for row in [*chunks.ids, *chunks.weights]} == {CHUNK}
    assert all(row[0] == 1 and row.count(2) == 1 for row in chunks.ids)
