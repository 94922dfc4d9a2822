"""The model with freshly built demo weights, and pictures for it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from models.ic_light.networks import Networks, load_networks
from models.ic_light.pipeline import IcLight
from models.weights.demo import ic_light
from models.weights.lock import Lock, write_lock
from models.weights.weight_set import WeightSet


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks gain nothing from a second thread, and lose much to it on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ic-light-weights")
    write_lock(folder, Lock(kind="demo", weights=ic_light.build(folder)))
    return folder


@pytest.fixture(scope="session")
def weights(weights_folder: Path) -> WeightSet:
    return WeightSet.open(weights_folder, "ic-light")


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


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
