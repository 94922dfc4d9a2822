"""Prompts with weights, as tokens in chunks of 77 (PuLID specification section 6). Free of torch.

`(text)` multiplies the weight by 1.1, `(text:1.3)` sets it, both may be nested; `\\(` and `\\)` are plain parentheses.
Weights beyond `MAX_WEIGHT` are refused: they push embeddings out of what half precision holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

CHUNK: Final = 77
MAX_WEIGHT: Final = 10.0
"""Largest absolute weight of a word."""
_EMPHASIS: Final = 1.1
_LONG_WORD: Final = 8
"""Words of at least that many tokens may be split over two chunks."""
_MAX_DEPTH: Final = 32
"""Deeper parentheses are plain text: it bounds the recursion."""
_SHOWN: Final = 40
"""Characters of a text that an error quotes."""
_OPEN, _CLOSE = "\x01", "\x02"

Weighted = tuple[str, float]
"""A piece of text and its weight."""


class Tokenizer(Protocol):
    """What is asked of a CLIP tokenizer."""

    bos_token_id: int
    eos_token_id: int
    pad_token_id: int

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of `text`."""
        ...


@dataclass(frozen=True)
class TokenChunks:
    """A prompt for one text encoder.

    `ids` and `weights`: one row of 77 for each chunk, start and end tokens and padding included. `empty`: the row of
    the empty prompt.
    """

    ids: list[list[int]]
    weights: list[list[float]]
    empty: list[int]

    @property
    def weighted(self) -> bool:
        """Whether any token has another weight than 1."""
        return any(weight != 1 for row in self.weights for weight in row)


def tokenize(prompt: str, tokenizer: Tokenizer) -> TokenChunks:
    """Split `prompt` into weighted words and pack their tokens into chunks; at least one chunk comes out."""
    words = [(tokenizer.encode(word, add_special_tokens=False), weight) for word, weight in _words(prompt)]
    chunks = _pack(words)
    padded = [_frame([token for token, _ in chunk], tokenizer) for chunk in chunks]
    weights = [[1.0, *(weight for _, weight in chunk), *[1.0] * (CHUNK - 1 - len(chunk))] for chunk in chunks]
    return TokenChunks(padded, weights, _frame([], tokenizer))


def check_weights(prompt: str) -> str:
    """The prompt as it is; raises `ValueError`, whose text is for the caller, if a weight is beyond ±`MAX_WEIGHT`."""
    for text, weight in weighted_segments(prompt):
        if abs(weight) > MAX_WEIGHT:
            shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
            raise ValueError(
                f"the weight of {shown!r} is {weight:.4g}, and weights go from -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}; "
                r"parentheses that are no weight are written \( and \)"
            )
    return prompt


def weighted_segments(prompt: str) -> list[Weighted]:
    """Split a prompt at its parentheses into text and weight; escaped parentheses come out as plain ones."""
    hidden = prompt.replace("\\(", _OPEN).replace("\\)", _CLOSE)
    return [
        (text.replace(_OPEN, "(").replace(_CLOSE, ")"), weight) for text, weight in _segments(hidden, 1.0, _MAX_DEPTH)
    ]


def _segments(text: str, weight: float, depth: int) -> Iterator[Weighted]:
    for part in _split(text):
        if depth and part.startswith("(") and part.endswith(")"):
            yield from _segments(*_emphasis(part[1:-1], weight), depth - 1)
        else:
            yield part, weight


def _split(text: str) -> Iterator[str]:
    """Cut `text` before each outermost opening and behind its closing parenthesis; what does not balance stays."""
    start = level = 0
    for position, letter in enumerate(text):
        if letter == "(":
            if level == 0 and position > start:
                yield text[start:position]
                start = position
            level += 1
        elif letter == ")":
            level -= 1
            if level == 0:
                yield text[start : position + 1]
                start = position + 1
    if start < len(text):
        yield text[start:]


def _emphasis(inner: str, weight: float) -> Weighted:
    text, colon, number = inner.rpartition(":")
    # "nan", "inf" and "infinity" are words here, though they parse as floats.
    if colon and text and any(letter.isdigit() for letter in number):
        try:
            return text, float(number)
        except ValueError:
            pass
    return inner, weight * _EMPHASIS


def _words(prompt: str) -> Iterator[Weighted]:
    for text, weight in weighted_segments(prompt):
        for word in text.replace("\n", " ").split(" "):
            if word:
                yield word, weight


def _pack(words: list[tuple[list[int], float]]) -> list[list[tuple[int, float]]]:
    """Fill chunks with whole words; only a long word is cut at a chunk's end."""
    room = CHUNK - 2
    chunks: list[list[tuple[int, float]]] = [[]]
    # A chunk is encoded on its own: a short word cut in two would lose its meaning.
    for tokens, weight in words:
        rest = [(token, weight) for token in tokens]
        while len(chunks[-1]) + len(rest) > room:
            cut = room - len(chunks[-1]) if len(tokens) >= _LONG_WORD else 0
            chunks[-1].extend(rest[:cut])
            rest = rest[cut:]
            chunks.append([])
        chunks[-1].extend(rest)
    return chunks


def _frame(tokens: list[int], tokenizer: Tokenizer) -> list[int]:
    framed = [tokenizer.bos_token_id, *tokens, tokenizer.eos_token_id]
    return framed + [tokenizer.pad_token_id] * (CHUNK - len(framed))
