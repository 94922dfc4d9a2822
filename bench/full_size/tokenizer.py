"""The files of CLIP's tokenizers, to the byte as they are published with SDXL and Stable Diffusion 1.5."""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path
from typing import Final

START: Final = "<|startoftext|>"
END: Final = "<|endoftext|>"
_MERGES: Final = slice(1, 49152 - 256 - 2 + 1)


def clip_vocabulary() -> tuple[dict[str, int], list[str]]:
    """CLIP's tokens with their ids, and its merges, from the list that its authors published."""
    spec = importlib.util.find_spec("open_clip")
    assert spec and spec.submodule_search_locations
    published = Path(spec.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"
    merges = gzip.decompress(published.read_bytes()).decode().split("\n")[_MERGES]
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(code) for code in printable] + [chr(256 + n) for n in range(256 - len(printable))]
    tokens = [*letters, *(f"{x}</w>" for x in letters), *(m.replace(" ", "") for m in merges), START, END]
    return {token: number for number, token in enumerate(tokens)}, merges


def published_tokenizer(padding: str) -> dict[str, bytes]:
    """The files of a CLIP tokenizer by name, written as the libraries of their makers wrote them."""
    vocabulary, merges = clip_vocabulary()

    def special(content: str) -> dict[str, object]:
        flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
        return {"__type": "AddedToken", "content": content, **flags}

    config = {
        "add_prefix_space": False,
        "bos_token": special(START),
        "clean_up_tokenization_spaces": True,
        "do_lower_case": True,
        "eos_token": special(END),
        "errors": "replace",
        "model_max_length": 77,
        "pad_token": padding,
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": special(END),
    }
    texts = {
        "vocab.json": json.dumps(vocabulary, indent=2, sort_keys=True, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *merges]),
        "tokenizer_config.json": json.dumps(config, indent=2),
    }
    return {name: f"{text}\n".encode() for name, text in texts.items()}
