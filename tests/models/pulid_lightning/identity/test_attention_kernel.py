"""The kernel of the identity's attention, run by Triton's interpreter, against the same in torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from models.pulid_lightning.attention import _kernel_takes
from tests.models.pulid_lightning.identity import interpreted_kernel
from tests.models.pulid_lightning.identity.interpreted_kernel import HEADS, SIZES, inputs

BOUNDS = {"attention": 2e-3, "dot": 1e-3, "square": 1e-5, "factor": 1e-5, "whole": 5e-3}
"""Largest differences of values of about one. Half precision has steps of a thousandth there."""


def test_it_computes_what_torch_does() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", interpreted_kernel.__name__],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    cases = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(cases) == 4 * len(SIZES)
    for case in cases:
        assert all(case[name] <= bound for name, bound in BOUNDS.items()), case


@pytest.mark.parametrize("compiling", [True, False])
def test_it_is_never_called_without_a_gpu(monkeypatch: pytest.MonkeyPatch, compiling: bool) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    query, context = inputs(queries=9, tokens=10, head=32, scale=1)
    assert not _kernel_takes(query, context, HEADS)
