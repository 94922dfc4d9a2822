"""Small CLIP tokenizers: byte-level BPE in the usual files, each trained on a short list of prompt words.

Any text can be tokenised, since the alphabet holds every byte; the listed words become one token each, all others
several. The ids of the start and end tokens are the last two, as in CLIP's own vocabulary.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

from tokenizers import pre_tokenizers

BOS: Final = "<|startoftext|>"
EOS: Final = "<|endoftext|>"
MODEL_MAX_LENGTH: Final = 77
_WORD_END: Final = "</w>"
_WORDS: Final = (
    "a an and the of in on with by at photo portrait picture person man woman face cat dog best quality bad low "
    "lowres worst cropped anatomy hands nsfw nude red green blue yellow white black gold warm cold light soft left "
    "right top bottom sunset sunshine window neon studio city forest beach room street photoshoot painting detailed"
)
_MORE_WORDS: Final = (
    "oil pencil sketch drawing watercolor watercolour style background backdrop wearing shirt dress jacket clothes "
    "hair smiling old young child lady night snow sky sea lights glow dark bright pink purple orange brown gray grey "
    "wall headshot close up profile colour color sitting standing 's artist paper canvas brush charcoal vibrant moody "
    "high resolution blurry ugly deformed extra fingers text watermark"
)
WORDS: Final = tuple(_WORDS.split())
"""Those of ic-light's tokenizer, whose trained text encoder knows their ids."""
PORTRAIT_WORDS: Final = (*WORDS, *_MORE_WORDS.split())
"""Those of SDXL's tokenizers; a word with a hyphen or an apostrophe is read as several."""

_Word = tuple[str, ...]
_Pair = tuple[str, str]


def vocabulary_size(words: Sequence[str] = WORDS) -> int:
    """Number of tokens; the last id is `EOS`, the one before it `BOS`."""
    return len(_vocabulary(_train(words)))


def write_tokenizer(folder: Path, words: Sequence[str] = WORDS, pad_token: str = EOS) -> None:
    """Write vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json into a new `folder`.

    Each of `words`, all different, becomes one token. `pad_token` is `EOS` for CLIP-L and "!" (id 0) for SDXL's second
    tokenizer.
    """
    merges = _train(words)
    special = {"bos_token": BOS, "eos_token": EOS, "pad_token": pad_token, "unk_token": EOS}
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": MODEL_MAX_LENGTH,
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        **special,
    }
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(_vocabulary(merges), ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges), ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=1), encoding="utf-8")


def _vocabulary(merges: list[_Pair]) -> dict[str, int]:
    # Sorted by code point this is CLIP's own order: "!" has id 0, which SDXL's second tokenizer relies on.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(letter + _WORD_END for letter in alphabet), *map("".join, merges), BOS, EOS]
    return {token: index for index, token in enumerate(tokens)}


def _train(words: Sequence[str]) -> list[_Pair]:
    """Merge the most frequent neighbours until every word is one token; ties go to the first in the alphabet."""
    spelled: list[_Word] = [(*word[:-1], word[-1] + _WORD_END) for word in words]
    merges: list[_Pair] = []
    while counts := Counter(pair for word in spelled for pair in pairwise(word)):
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        spelled = [_merge(word, best) for word in spelled]
    return merges


def _merge(word: _Word, pair: _Pair) -> _Word:
    merged: list[str] = []
    for letters in word:
        if merged and (merged[-1], letters) == pair:
            merged[-1] += letters
        else:
            merged.append(letters)
    return tuple(merged)
