"""The model with freshly built demo weights, and pictures for it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from models.ic_light.networks import Networks, load_networks
from models.ic_light.pipeline import IcLight
from models.weights.installed import WeightSet


@pytest.fixture(scope="session")
def weights(demo_weights: Path) -> WeightSet:
    return WeightSet.open(demo_weights, "ic-light")


@pytest.fixture(scope="session")
def networks(weights: WeightSet) -> Networks:
    return load_networks(weights, torch.device("cpu"))


@pytest.fixture(scope="session")
def model(networks: Networks) -> IcLight:
    return IcLight(networks)


@pytest.fixture(scope="session")
def astronaut() -> bytes:
    return png(data.astronaut())


@pytest.fixture(scope="session")
def coffee() -> bytes:
    return png(data.coffee())


@pytest.fixture
def noise_picture() -> np.ndarray:
    """RGB noise, 120 px high and 90 px wide."""
    return np.random.default_rng(0).integers(0, 256, (120, 90, 3), dtype=np.uint8)


@pytest.fixture
def noise(noise_picture: np.ndarray) -> torch.Tensor:
    """The same as a tensor."""
    return torch.from_numpy(noise_picture)


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
