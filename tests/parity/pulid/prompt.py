"""`prompt_tokens`, `prompt_weighting`: weighted prompts as tokens, and what the weights do to embeddings."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from models.demo.tokenizer import BOS, EOS
from models.pulid_lightning.prompt import TokenChunks, Tokenizer, tokenize, weighted_segments
from models.pulid_lightning.sdxl import load_tokenizers
from models.pulid_lightning.text_encoder import encode_chunks
from models.weights.folder import Folder
from tests.parity.pulid.vector import Vector
from tests.parity.report import Row, close, exact

if TYPE_CHECKING:
    from open_clip.tokenizer import SimpleTokenizer

_WEIGHT_TOLERANCE: Final = 1e-9
_STUB_WIDTH: Final = 6


def check_tokens(vector: Vector) -> Iterator[Row]:
    """Segments, tokens and weights of every prompt, for both encoders."""
    with clip_tokenizers() as tokenizers:
        for number, case in enumerate(vector.facts["prompts"]):
            name = f"{number} {case['prompt'][:24]!r}"
            segments = weighted_segments(case["prompt"])
            yield from _weighted(f"{name} segments", [list(segment) for segment in segments], case["segments"])
            for encoder, tokenizer in zip(("clip_l", "clip_g"), tokenizers, strict=True):
                chunks = tokenize(case["prompt"], tokenizer)
                yield from _weighted(f"{name} {encoder}", _pairs(chunks), _expanded(case[encoder]))


@torch.inference_mode()
def check_weighting(vector: Vector) -> Iterator[Row]:
    """Embeddings and pooled embedding of weighted prompts, from a text encoder that the vector's recipe describes."""
    rows: list[int] = []

    def encode(ids: Tensor) -> tuple[Tensor, Tensor]:
        rows.append(len(ids))
        states = torch.stack([_stub_row(vector, row) for row in ids.tolist()]).to(vector.device)
        return states, states.mean(1)

    with clip_tokenizers() as (_, tokenizer):
        for number, case in enumerate(vector.facts["cases"]):
            states, pooled = encode_chunks(tokenize(case["prompt"], tokenizer), encode)
            yield exact(f"{number} shape", list(states.shape), case["shape"])
            yield exact(f"{number} rows_encoded", rows.pop(), case["rows_encoded"])
            yield vector.close(f"{number}.cond", states)
            yield vector.close(f"{number}.pooled", pooled)


@contextmanager
def clip_tokenizers() -> Iterator[tuple[Tokenizer, Tokenizer]]:
    """SDXL's two tokenizers, from CLIP's published vocabulary."""
    # It takes seconds to import, and no other vector needs it.
    from open_clip.tokenizer import SimpleTokenizer

    with tempfile.TemporaryDirectory() as folder:
        source = SimpleTokenizer()
        _write(Path(folder) / "tokenizer", source, pad_token=EOS)
        _write(Path(folder) / "tokenizer_2", source, pad_token="!")
        yield load_tokenizers(Folder.as_found(Path(folder)))


def _write(folder: Path, source: SimpleTokenizer, pad_token: str) -> None:
    folder.mkdir()
    tokens = sorted(source.encoder, key=source.encoder.__getitem__)
    vocabulary = {token: number for number, token in enumerate([*tokens[:-2], BOS, EOS])}
    merges = sorted(source.bpe_ranks, key=source.bpe_ranks.__getitem__)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges), ""]
    special = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": pad_token}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True, **special}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def _weighted(name: str, got: list[Any], golden: list[Any]) -> Iterator[Row]:
    """Compare lists of (thing, weight): things exactly, weights almost."""
    yield exact(name, [thing for thing, _ in got], [thing for thing, _ in golden])
    yield close(f"{name} weights", [x for _, x in got], [x for _, x in golden], 0.0, _WEIGHT_TOLERANCE)


def _pairs(chunks: TokenChunks) -> list[list[Any]]:
    rows = zip(chunks.ids, chunks.weights, strict=True)
    return [[token, weight] for ids, weights in rows for token, weight in zip(ids, weights, strict=True)]


def _expanded(runs: list[list[list[Any]]]) -> list[list[Any]]:
    """Run-length encoded chunks, one after the other."""
    return [[token, weight] for token, weight, count in itertools.chain(*runs) for _ in range(count)]


def _stub_row(vector: Vector, row: list[int]) -> Tensor:
    drawn = [vector.recipe.input(f"tok.{token}.{position}", (_STUB_WIDTH,)) for position, token in enumerate(row)]
    return torch.stack(drawn)
