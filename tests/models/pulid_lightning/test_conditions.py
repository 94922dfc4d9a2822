"""Conditions of a request: few operators, captured text encoders, and nothing that depends on the cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.counts.counting import operators
from bench.full_size.networks import Precision, PulidParts, pulid_parts, pulid_pipeline
from bench.full_size.workloads import prepare_pulid
from models.pulid_lightning.checkpoints import Checkpoint
from models.pulid_lightning.conditions import Conditioner
from models.runtime.projections import lay_side_by_side
from models.runtime.runner import EAGER, Execution
from models.runtime.stage_clock import StageClock
from models.runtime.tree import tree_leaves
from models.runtime.unet import text_weights
from tests.models.runtime.fake_capturer import FakeGraphCapturer

CPU = torch.device("cpu")
LONG = "(a portrait:1.2) " + 100 * "by the sea "


@pytest.fixture(scope="module")
def parts() -> PulidParts:
    """In bfloat16, where a sum depends on how many rows are multiplied at a time."""
    torch.manual_seed(0)
    parts = pulid_parts(CPU, reduced=True, precision=Precision(torch.bfloat16, torch.float32))
    for weights in text_weights(parts.unet):
        lay_side_by_side(weights)
    lay_side_by_side([projection.key for projection in parts.projections.values()])
    lay_side_by_side([projection.value for projection in parts.projections.values()])
    return parts


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def checkpoint(parts: PulidParts) -> Checkpoint:
    return Checkpoint(parts.unet, parts.vae, parts.clip_l, parts.clip_g)


def conditioner(parts: PulidParts, execution: Execution = EAGER) -> Conditioner:
    return Conditioner(parts.extractor, parts.unet, parts.projections, "comfyui", CPU, StageClock(CPU), execution)


def request(parts: PulidParts, prompt: str, negative_prompt: str = "blurred") -> Any:
    return prepare_pulid(
        pulid_pipeline(parts), prompt=prompt, negative_prompt=negative_prompt, width=256, height=256, seed=1
    )


def tensors(conditions: Any) -> list[Tensor]:
    return [*tree_leaves(conditions.contexts), *conditions.shifts.values()]


def test_known_texts_and_faces_take_few_operators(parts: PulidParts, checkpoint: Checkpoint) -> None:
    conditions, prepared = conditioner(parts), request(parts, "a cup")
    conditions([prepared], checkpoint)
    # However many layers the UNet has: of full size, where each projection was an operator, it was 706.
    assert operators(lambda: conditions([prepared], checkpoint)) <= 135


def test_text_encoders_are_captured_for_texts_of_any_length(parts: PulidParts, checkpoint: Checkpoint) -> None:
    capturer = FakeGraphCapturer()
    captured = conditioner(parts, Execution(capturer=capturer))
    captured.capture(checkpoint)
    assert (capturer.captured, capturer.replayed) == (2, 0)
    prepared = request(parts, LONG)
    chunks = len(prepared.prompt.clip_l.ids)
    assert chunks > 1
    found = captured([prepared], checkpoint)
    # Chunks and the empty prompt, and the one chunk of the negative prompt, by two encoders.
    assert capturer.replayed == 2 * (chunks + 1 + 1)
    for one, other in zip(tensors(found), tensors(conditioner(parts)([prepared], checkpoint)), strict=True):
        assert torch.equal(one, other)


def test_conditions_do_not_depend_on_what_is_cached(parts: PulidParts, checkpoint: Checkpoint) -> None:
    fresh, used = conditioner(parts), conditioner(parts)
    used([request(parts, "another", "blurred")], checkpoint)
    for prompt in ("a cup", LONG):
        prepared = request(parts, prompt, "blurred")
        for one, other in zip(
            tensors(fresh([prepared], checkpoint)), tensors(used([prepared], checkpoint)), strict=True
        ):
            assert torch.equal(one, other)
        fresh.clear_caches()
