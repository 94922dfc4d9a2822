"""What tests of both models have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.models.small_unets import demo_sd15, small_sd15, small_sdxl


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks gain nothing from a second thread, and lose much to it on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", name="small_sd15")
def _small_sd15() -> Any:
    return small_sd15()


@pytest.fixture(scope="session", name="demo_sd15")
def _demo_sd15() -> Any:
    return demo_sd15()


@pytest.fixture(scope="session", name="small_sdxl")
def _small_sdxl() -> Any:
    return small_sdxl()
