"""The runner notices: one wrong constant of the project, and the vector that depends on it fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor

from models.pulid_lightning import attention, prompt, sampler, text_encoder
from models.pulid_lightning.identity import bisenet, encoder, eva_clip, extractor, face
from models.runtime.unet import cross_attentions
from tests.parity.discover import run

GOLDEN = Path(__file__).parents[1] / "golden" / "pulid"
Patch = pytest.MonkeyPatch
Wrong = Callable[[Patch], None]


def constant(module: object, name: str, value: object) -> Wrong:
    """Another value of one of a module's names."""
    return lambda patch: patch.setattr(module, name, value)


def method(style: attention.FaceStyle, **changes: object) -> Wrong:
    """Another way of adding the identity."""
    wrong = replace(attention.METHODS[style], **changes)
    return lambda patch: patch.setitem(attention.METHODS, style, wrong)


def bilinear(x: Tensor, like: Tensor) -> Tensor:
    """Resizing that smooths, in the face parser."""
    return functional.interpolate(x, like.shape[2:], mode="bilinear")


def all_heads_at_once(method: attention.Method, tokens: int, _heads: int, ortho_mask=attention._ortho_mask) -> Tensor:
    """The body's share of a whole picture, as the ComfyUI port has it."""
    return ortho_mask(method, tokens, 1)


def backwards(unet: Any) -> list[Any]:
    """The cross-attentions in another order."""
    return cross_attentions(unet)[::-1]


def padded_with_end(tokens: list[int], tokenizer: prompt.Tokenizer) -> list[int]:
    """CLIP-L's padding, for both encoders."""
    return [tokenizer.bos_token_id, *tokens, *[tokenizer.eos_token_id] * (prompt.CHUNK - 1 - len(tokens))]


def float32_sigmas() -> Tensor:
    """The training sigmas without float64 on the way."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alphas = torch.cumprod(1 - betas, 0)
    return ((1 - alphas) / alphas).sqrt()


def independent(shape: tuple[int, ...], seed: int, sigmas: Tensor) -> Tensor:
    """Noise of the right spread that follows no path."""
    steps = len(sampler.sigma_steps(sigmas))
    return torch.randn(steps, *shape, generator=torch.Generator().manual_seed(seed))


MOVED = face.TEMPLATE + np.array([0.5, 0.0])
WITHOUT_HAIR = (*extractor.BACKGROUND, 17)
BODY_AND_ONE = 6

WRONG = [
    ("align", "template", constant(face, "TEMPLATE", MOVED)),
    ("align", "border", constant(face, "_BORDER_RGB", (135, 133, 132))),
    pytest.param("apply_pulid", "num_zero", method("high-fidelity", num_zero=10), marks=pytest.mark.slow),
    pytest.param("apply_pulid", "num_zero of the style", method("stylized", num_zero=8), marks=pytest.mark.slow),
    pytest.param("apply_pulid", "projection", method("stylized", projection="ortho_v2"), marks=pytest.mark.slow),
    pytest.param("apply_pulid", "weight", constant(attention, "WEIGHT", 1.0), marks=pytest.mark.slow),
    ("apply_pulid", "hair", constant(extractor, "BACKGROUND", WITHOUT_HAIR)),
    pytest.param(
        "apply_pulid", "parser's mean", constant(extractor, "_IMAGENET_MEAN", [0.5, 0.5, 0.5]), marks=pytest.mark.slow
    ),
    pytest.param(
        "apply_pulid", "tower's deviation", constant(eva_clip, "_CLIP_STD", [0.5, 0.5, 0.5]), marks=pytest.mark.slow
    ),
    pytest.param("apply_pulid", "smallest face", constant(face, "largest", lambda boxes: 2), marks=pytest.mark.slow),
    pytest.param(
        "apply_pulid", "detection sizes", constant(face, "DETECTION_SIZES", (640, 512, 320)), marks=pytest.mark.slow
    ),
    ("attn_comfy", "official share", method("high-fidelity", body_weighting="official")),
    ("attn_comfy", "body tokens", constant(attention, "BODY_TOKENS", BODY_AND_ONE)),
    ("attn_official", "ComfyUI's share", constant(attention, "_ortho_mask", all_heads_at_once)),
    ("attn_official", "body tokens", constant(attention, "BODY_TOKENS", BODY_AND_ONE)),
    ("bisenet_real", "bilinear", constant(bisenet, "_resize", bilinear)),
    ("eva_small", "block", constant(eva_clip, "TAPS", (3, 7, 11, 15, 20))),
    ("eva_small", "grid", constant(eva_clip, "_PRETRAINING_GRID", (24, 24))),
    pytest.param("id_encoder_v1_real", "slope", constant(encoder, "_NEGATIVE_SLOPE", 0.02), marks=pytest.mark.slow),
    ("id_encoder_v1_small", "slope", constant(encoder, "_NEGATIVE_SLOPE", 0.02)),
    ("id_former_v11_small", "slope", constant(encoder, "_NEGATIVE_SLOPE", 0.02)),
    pytest.param("id_former_v11_real", "slope", constant(encoder, "_NEGATIVE_SLOPE", 0.02), marks=pytest.mark.slow),
    ("layer_index_map", "order", constant(attention, "cross_attentions", backwards)),
    ("prompt_tokens", "emphasis", constant(prompt, "_EMPHASIS", 1.2)),
    pytest.param("prompt_tokens", "long word", constant(prompt, "_LONG_WORD", 4), marks=pytest.mark.slow),
    ("prompt_tokens", "padding", constant(prompt, "_frame", padded_with_end)),
    ("prompt_weighting", "empty prompt", constant(text_encoder, "_weighted", lambda states, empty, weights: states)),
    ("sampler_dpmpp_sde", "rho", constant(sampler, "_RHO", 7.001)),
    ("sampler_dpmpp_sde", "training sigmas", constant(sampler, "training_sigmas", float32_sigmas)),
    ("sampler_dpmpp_sde", "noise", constant(sampler, "precompute_noise", independent)),
    pytest.param("eva_real", "block", constant(eva_clip, "TAPS", (2, 7, 11, 15, 19)), marks=pytest.mark.slow),
]


def failures(folder: Path, stem: str) -> list[str]:
    """Names of the failed rows of one vector, in a folder of its own."""
    for file in GOLDEN.glob(f"{stem}.*"):
        (folder / file.name).symlink_to(file)
    return [row.name for row in run(folder, torch.device("cpu")) if not row.passed]


@pytest.mark.parametrize(("stem", "what", "wrong"), WRONG)
def test_a_wrong_constant_fails(tmp_path: Path, monkeypatch: Patch, stem: str, what: str, wrong: Wrong):
    wrong(monkeypatch)
    assert failures(tmp_path, stem), what
