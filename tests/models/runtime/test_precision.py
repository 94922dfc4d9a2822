"""Precision by device: half where it is fast, and never where a VAE would overflow."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from models.errors import DeviceUnfit
from models.ic_light import pipeline as ic_light
from models.pulid_lightning import pipeline as pulid_lightning
from models.runtime.precision import (
    FULL_PRECISION,
    Precision,
    accumulate_in_half,
    cpu_multiplies_bfloat16,
    precision_of,
    serving_precision,
)
from models.weights.installed import WeightSet

CPU, GPU = torch.device("cpu"), torch.device("cuda:1")
IN_BFLOAT16 = Precision(torch.bfloat16, torch.bfloat16)


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
    assert precision_of(GPU) == Precision(torch.float16, expected)
    assert asked == [GPU], "the device of the networks counts, not the current one"
    for chosen in ("auto", "float32", "bfloat16"):
        assert serving_precision(GPU, chosen, "real") == Precision(torch.float16, expected), "a GPU has its own"


@pytest.mark.parametrize("capabilities", [{"avx512_bf16": True}, {"amx_bf16": True}, {"avx512_f": True}, {}], ids=str)
def test_real_weights_are_bfloat16_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool]
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    fast = capabilities.keys() & {"avx512_bf16", "amx_bf16"}
    assert serving_precision(CPU, "auto", "real") == (IN_BFLOAT16 if fast else FULL_PRECISION)
    assert serving_precision(CPU, "auto", "demo") == FULL_PRECISION
    for kind in ("real", "demo"):
        assert serving_precision(CPU, "float32", kind) == FULL_PRECISION
        assert serving_precision(CPU, "bfloat16", kind) == IN_BFLOAT16
    assert precision_of(CPU) == FULL_PRECISION


@pytest.mark.parametrize(("bfloat16", "amx"), [(True, False), (False, True), (False, False)])
def test_an_older_torch_is_asked_otherwise(monkeypatch: pytest.MonkeyPatch, bfloat16: bool, amx: bool) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bfloat16, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert cpu_multiplies_bfloat16() == (bfloat16 or amx)


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
