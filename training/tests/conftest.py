"""Fixtures of the training's tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models.demo.build import build

# Of the processes that the tests start, as `one_thread` is of this one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks gain nothing from a second thread, and lose much to it on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def demo_weights() -> Path:
    """Folder of the shipped demo weights, built by the first run."""
    folder = REPOSITORY / "var" / "test" / "weights"
    build(folder)
    return folder
