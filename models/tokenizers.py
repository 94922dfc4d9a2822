"""CLIP's tokenizers, from recorded files, and checked: of a damaged vocabulary the library makes one as well."""

from __future__ import annotations

import json
from typing import Any, Final

from transformers import CLIPTokenizer

from models.errors import WeightFileError
from models.weights.folder import Folder

_START: Final = "<|startoftext|>"
_END: Final = "<|endoftext|>"
_ALPHABET: Final = 256
"""Letters of a byte-level vocabulary; each is there twice, the second time as the end of a word."""
_FILES: Final = ("vocab.json", "merges.txt")


def load_tokenizer(folder: Folder, embeddings: int, **options: Any) -> Any:
    """The tokenizer in `folder`, whose text encoder knows `embeddings` tokens; `options` precede its own configuration.

    Raises `WeightFileError` unless it is a tokenizer of CLIP's kind with exactly that vocabulary.
    """
    files = [folder.file(name) for name in _FILES]
    with folder.alone() as links:
        tokenizer = CLIPTokenizer.from_pretrained(links, local_files_only=True, **options)
        model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    if fault := _fault(tokenizer, len(model["merges"]), embeddings):
        raise WeightFileError(f"{' and '.join(map(str, files))}: {fault}")
    return tokenizer


def _fault(tokenizer: Any, merges: int, embeddings: int) -> str | None:
    vocabulary = tokenizer.get_vocab()
    size = len(vocabulary)
    if sorted(vocabulary.values()) != list(range(size)) or size != 2 * _ALPHABET + merges + 2:
        return f"no vocabulary of CLIP's kind: {size:,} tokens and {merges:,} merges do not go together."
    if (vocabulary.get(_START), vocabulary.get(_END)) != (size - 2, size - 1):
        return f"no vocabulary of CLIP's kind: {_START} and {_END} are not its last tokens."
    if (tokenizer.bos_token, tokenizer.eos_token) != (_START, _END):
        return f"texts would begin with {tokenizer.bos_token} and end with {tokenizer.eos_token}."
    if size != embeddings:
        return f"it has {size:,} tokens, and its text encoder {embeddings:,}."
    return None
