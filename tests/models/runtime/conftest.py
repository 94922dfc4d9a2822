"""Small networks and inputs for compiling and recording."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch._dynamo.utils import counters


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    """No graphs of earlier tests, and none of the libraries whose thresholds only CPUs have."""
    torch._dynamo.reset()
    counters.clear()
    with torch.backends.nnpack.flags(False):
        mkldnn = torch.backends.mkldnn.set_flags(False)
        yield
        torch.backends.mkldnn.set_flags(*mkldnn)
    torch._dynamo.reset()
