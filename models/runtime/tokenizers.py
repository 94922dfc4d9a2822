"""CLIP's tokenizers, from recorded files, and checked: of a damaged vocabulary the library makes one as well."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from transformers import CLIPTokenizer

from models.errors import WeightsError
from models.weights.file_errors import file_errors
from models.weights.folder import Folder

_START: Final = "<|startoftext|>"
_END: Final = "<|endoftext|>"
_ALPHABET: Final = 256
"""Letters of a byte-level vocabulary; each is there twice, the second time as the end of a word."""
_FILES: Final = ("vocab.json", "merges.txt")


def load_tokenizer(folder: Folder, embeddings: int, sources: Iterable[Path] = (), **options: Any) -> Any:
    """The tokenizer in `folder`, whose text encoder knows `embeddings` tokens, as the files `sources` have it.

    `options` precede its own configuration. Raises `WeightFileError` unless it is a tokenizer of CLIP's kind with
    exactly that vocabulary.
    """
    files = [folder.file(name) for name in _FILES]
    with folder.linked() as links:
        tokenizer = CLIPTokenizer.from_pretrained(links, local_files_only=True, **options)
        merges = len(json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"])
        _require_special_tokens(tokenizer)
    size = len(vocabulary := tokenizer.get_vocab())
    with file_errors(*files):
        if sorted(vocabulary.values()) != list(range(size)) or size != 2 * _ALPHABET + merges + 2:
            raise WeightsError(f"{size:,} tokens and {merges:,} merges are no vocabulary of CLIP's kind.")
        if (vocabulary.get(_START), vocabulary.get(_END)) != (size - 2, size - 1):
            raise WeightsError(f"no vocabulary of CLIP's kind: {_START} and {_END} are not its last tokens.")
    with file_errors(*files, *sources):
        if size != embeddings:
            raise WeightsError(f"the tokenizer has {size:,} tokens, and its text encoder {embeddings}.")
    return tokenizer


def _require_special_tokens(tokenizer: Any) -> None:
    if (tokenizer.bos_token, tokenizer.eos_token) != (_START, _END):
        raise WeightsError(f"texts would begin with {tokenizer.bos_token} and end with {tokenizer.eos_token}.")
