"""Precision by device: half where it is fast, and never where a VAE would overflow."""

from __future__ import annotations

import pytest
import torch

from models.runtime.precision import half_precision, wide_half_precision

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
