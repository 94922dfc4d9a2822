"""The pipeline with demo weights, and photos of one person."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from skimage import data

from models.imaging.types import Rgb
from models.pulid_lightning.pipeline import PulidLightning, load
from models.weights.installed import WeightSet


@pytest.fixture(scope="session")
def weights(demo_weights: Path) -> WeightSet:
    return WeightSet.open(demo_weights, "pulid-lightning")


@pytest.fixture(scope="session")
def pipeline(weights: WeightSet) -> PulidLightning:
    return load(weights, torch.device("cpu"))


@pytest.fixture(scope="session")
def portrait() -> Rgb:
    """A photo with one face, 512 x 512."""
    return data.astronaut()


@pytest.fixture(scope="session")
def png() -> Callable[[Rgb], bytes]:
    def encode(picture: Rgb) -> bytes:
        out = io.BytesIO()
        Image.fromarray(picture).save(out, "PNG")
        return out.getvalue()

    return encode
