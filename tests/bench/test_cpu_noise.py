"""The benchmark of the noise compares the same numbers."""

from __future__ import annotations

import pytest
import torch

from bench import cpu_noise
from models.pulid_lightning.sampler import karras_sigmas, precompute_noise


def test_both_sides_sample_the_same_noise() -> None:
    shape = (1, 4, 8, 8)
    assert torch.equal(cpu_noise.by_torchsde(shape, 5), precompute_noise(shape, 5, karras_sigmas(4)))


@pytest.mark.slow
def test_the_rows_tell_equality_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_noise, "_ROUNDS", 1)
    rows = list(cpu_noise.rows())
    assert [row.value for row in rows[::2]] == [0, 0]
    assert all(row.value is not None and 0 < row.value < 2 for row in rows[1::2])
