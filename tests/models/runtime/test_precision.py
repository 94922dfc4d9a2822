"""Precision by device: half where it is fast, and never where a VAE would overflow."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from models.errors import DeviceUnfit
from models.ic_light import pipeline as ic_light
from models.pulid_lightning import pipeline as pulid_lightning
from models.runtime.precision import accumulate_in_half, half_precision, wide_half_precision
from models.weights.installed import WeightSet

CPU, GPU = torch.device("cpu"), torch.device("cuda:1")


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((7, 0), torch.float32), ((7, 5), torch.float32), ((8, 0), torch.bfloat16), ((12, 0), torch.bfloat16)],
    ids=["V100", "T4", "A100", "RTX 50"],
)
def test_vaes_are_bfloat16_where_convolutions_take_it(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: torch.dtype
) -> None:
    asked: list[torch.device] = []

    def capability_of(device: torch.device) -> tuple[int, int]:
        asked.append(device)
        return capability

    monkeypatch.setattr(torch.cuda, "get_device_capability", capability_of)
    assert wide_half_precision(GPU) == expected
    assert asked == [GPU], "the device of the networks counts, not the current one"
    assert half_precision(GPU) == torch.float16


def test_a_processor_computes_in_float32() -> None:
    assert half_precision(CPU) == wide_half_precision(CPU) == torch.float32


def test_sums_in_float16_are_a_gpus_alone() -> None:
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_fp16_accumulation
    try:
        with pytest.raises(DeviceUnfit, match="FACELIGHT_FP16_ACCUMULATION needs a GPU"):
            accumulate_in_half(CPU)
        assert not matmul.allow_fp16_accumulation
        accumulate_in_half(GPU)
        assert matmul.allow_fp16_accumulation
    finally:
        matmul.allow_fp16_accumulation = before


@pytest.mark.parametrize("model", [pulid_lightning, ic_light], ids=lambda model: model.__name__.split(".")[1])
def test_a_model_is_refused_before_its_files_are_read(model: ModuleType) -> None:
    options = model.Options(fp16_accumulation=True)
    with pytest.raises(DeviceUnfit):
        model.load(WeightSet.empty(), CPU, options)
