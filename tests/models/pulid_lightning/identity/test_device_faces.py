"""Finding faces with both networks run by torch, as on a GPU, beside onnxruntime."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from skimage import data
from torch import nn
from torch.overrides import TorchFunctionMode

from bench.counts.counting import META, flop, operators
from bench.full_size.face_networks import IRESNET_50, write_detector, write_recogniser
from bench.photographs import photograph
from models.errors import NoFaceFound, NonFiniteResult
from models.pulid_lightning.identity.device_session import DeviceSession, DeviceThread
from models.pulid_lightning.identity.face import DETECTION_SIZES, FaceFinder
from models.pulid_lightning.identity.onnx_network import OnnxNetwork
from models.weights.folder import Folder
from models.weights.installed import WeightSet
from tests.models.pulid_lightning.identity.live_memory import peak_of_live_bytes
from tests.models.pulid_lightning.identity.test_onnx_network import (
    NARROW_DETECTOR,
    NARROW_RECOGNISER,
    by_both,
    pixels,
)

CPU = torch.device("cpu")
DETECTOR, RECOGNISER = "scrfd_10g_bnkps.onnx", "glintr100.onnx"
PUBLISHED_BYTES = {DETECTOR: 16_923_827, RECOGNISER: 260_665_334}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Narrow networks of the published topology, which find a face in every picture."""
    folder = tmp_path_factory.mktemp("faces")
    write_detector(folder / DETECTOR, 1, NARROW_DETECTOR)
    write_recogniser(folder / RECOGNISER, 2, NARROW_RECOGNISER)
    return folder


@pytest.fixture
def changed(folder: Path, tmp_path: Path) -> Callable[..., FaceFinder]:
    """Write one of the networks with a change, and the other as it is; load both for a device."""

    def load(name: str, change: Callable[[onnx.ModelProto], None], device: torch.device | None = CPU) -> FaceFinder:
        for file in (DETECTOR, RECOGNISER):
            model = onnx.load(folder / file)
            if file == name:
                change(model)
            onnx.save(model, tmp_path / file)
        return FaceFinder(Folder.as_found(tmp_path), device)

    return load


def both(folder: Path) -> tuple[FaceFinder, FaceFinder]:
    usual, by_torch = (FaceFinder(Folder.as_found(folder), device) for device in (None, CPU))
    assert usual.fallbacks == by_torch.fallbacks == []
    return usual, by_torch


def compare(finders: tuple[FaceFinder, FaceFinder], *pictures: np.ndarray) -> None:
    for picture in pictures:
        usual, ours = (finder.find(picture) for finder in finders)
        # The crop is of 8 bits: a keypoint that moves by 1e-5 px moves a pixel's value by one, if any.
        assert np.abs(ours.crop.astype(int) - usual.crop).max() <= 1
        assert np.abs(ours.embedding - usual.embedding).max() <= 1e-4 * np.abs(usual.embedding).max()
        assert ours.embedding.dtype == np.float32 and ours.embedding.shape == (512,)


def test_the_same_face_is_found_as_by_onnxruntime(folder: Path, portrait: np.ndarray):
    finders = both(folder)
    compare(finders, portrait, data.coffee())
    embeddings = [finder.find(portrait).embedding for finder in finders]
    assert np.linalg.norm(embeddings[0]) > 1
    (detector, keypoints), (theirs, others) = (
        finder._detector.detect(portrait, input_size=(640, 640)) for finder in reversed(finders)
    )
    assert len(detector) == len(theirs) > 0
    assert np.abs(detector - theirs).max() <= 1e-4 * np.abs(theirs).max()
    assert np.abs(keypoints - others).max() <= 1e-4 * np.abs(others).max()


def test_a_picture_without_a_face_is_refused_as_ever(changed: Callable[..., FaceFinder], portrait: np.ndarray):
    def unlikely(model: onnx.ModelProto) -> None:
        """Lower the scores of stride 32 to those of the others."""
        for tensor in model.graph.initializer:
            if list(tensor.dims) == [2] and tensor.data_type == TensorProto.FLOAT:
                tensor.CopyFrom(numpy_helper.from_array(np.full(2, -8, np.float32), tensor.name))

    finder = changed(DETECTOR, unlikely)
    assert not finder.fallbacks
    with pytest.raises(NoFaceFound, match=r"No face was found in face_image\."):
        finder.find(portrait)


def test_networks_that_torch_cannot_run_stay_on_the_cpu_and_say_so(
    weights: WeightSet, caplog: pytest.LogCaptureFixture
):
    """The demo weights are such: their detector is a loop over an image pyramid."""
    folder = weights.folder("face_analysis")
    with caplog.at_level(logging.WARNING):
        finder = FaceFinder(folder, CPU)
    assert sorted(finder.fallbacks) == [
        "the face detector runs on the CPU instead of cpu because of operator ReduceMin",
        "the face recogniser runs on the CPU instead of cpu because of operator MatMul",
    ]
    assert sorted(caplog.messages) == sorted(finder.fallbacks)
    for model in (finder._detector, finder._recogniser):
        assert isinstance(model.session, onnxruntime.InferenceSession)


def test_one_network_on_the_cpu_leaves_the_other_on_the_device(
    changed: Callable[..., FaceFinder], folder: Path, portrait: np.ndarray
):
    def with_softplus(model: onnx.ModelProto) -> None:
        node = model.graph.node[-1]
        node.input[0], before = "soft", node.input[0]
        model.graph.node.insert(len(model.graph.node) - 1, helper.make_node("Softplus", [before], ["soft"]))

    finder = changed(RECOGNISER, with_softplus)
    assert finder.fallbacks == ["the face recogniser runs on the CPU instead of cpu because of operator Softplus"]
    assert isinstance(finder._detector.session, DeviceSession)
    compare((changed(RECOGNISER, with_softplus, None), finder), portrait)


def test_a_network_that_computes_something_else_stays_on_the_cpu(
    changed: Callable[..., FaceFinder], portrait: np.ndarray
):
    """nan compares with nothing, so it is no proof that both compute the same."""

    def broken(model: onnx.ModelProto) -> None:
        tensor = next(tensor for tensor in model.graph.initializer if list(tensor.dims) == [512])
        tensor.CopyFrom(numpy_helper.from_array(np.full(512, np.nan, np.float32), tensor.name))

    finder = changed(RECOGNISER, broken)
    assert finder.fallbacks == [
        "the face recogniser runs on the CPU instead of cpu because of outputs that deviate from onnxruntime's by nan"
    ]
    with pytest.raises(NonFiniteResult, match="the face's embedding"):
        finder.find(portrait)


def test_what_torch_raises_over_a_graph_is_a_reason_too(changed: Callable[..., FaceFinder], portrait: np.ndarray):
    """ONNX may take values backwards, Python's slices of tensors may not."""

    def reversed_embedding(model: onnx.ModelProto) -> None:
        graph, last = model.graph, model.graph.node[-1]
        for name, value in {"last": -1, "first": -(2**31), "axis": 1, "back": -1}.items():
            graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), name))
        node = helper.make_node("Slice", [last.input[0], "last", "first", "axis", "back"], ["reversed"])
        last.input[0] = "reversed"
        graph.node.insert(len(graph.node) - 1, node)

    finder = changed(RECOGNISER, reversed_embedding)
    (reason,) = finder.fallbacks
    assert reason.startswith("the face recogniser runs on the CPU instead of cpu because of ValueError: ")
    assert np.isfinite(finder.find(portrait).embedding).all()


class Echo(nn.Module):
    """Gives its input and notes the thread."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[str] = []

    def forward(self, value: torch.Tensor) -> list[torch.Tensor]:
        self.threads.append(threading.current_thread().name)
        assert torch.is_inference_mode_enabled()
        return [value]


def test_one_thread_runs_the_networks_whoever_prepares():
    network: Any = Echo()
    thread = DeviceThread(CPU)
    batches = [pixels(1, 3, 4, 4) + number for number in range(8)]
    with ThreadPoolExecutor(3) as callers:
        results = list(callers.map(lambda batch: thread.run(network, batch)[0], batches))
    results.append(thread.run(network, batches[0])[0])
    assert all(np.array_equal(result, batch) for result, batch in zip(results, [*batches, batches[0]], strict=True))
    assert set(network.threads) == {"faces_0"}


def test_errors_reach_the_caller():
    def fail(_value: torch.Tensor) -> list[torch.Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    network: Any = fail
    with pytest.raises(torch.OutOfMemoryError):
        DeviceThread(CPU).run(network, pixels(1, 3, 4, 4))


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("full_size")
    write_detector(folder / DETECTOR, 1)
    write_recogniser(folder / RECOGNISER, 2)
    yield folder
    shutil.rmtree(folder)  # pytest would keep 280 MB for three more runs


@pytest.mark.slow
class TestFullSize:
    """Networks of the published topology and size."""

    def test_files_are_as_large_as_the_published_ones(self, full_size: Path):
        for name, size in PUBLISHED_BYTES.items():
            assert (full_size / name).stat().st_size == pytest.approx(size, rel=1e-4)

    def test_work_is_the_published_one(self, full_size: Path):
        """SCRFD-10GF is named after its 10 billion multiplications at 640 x 480 px; IResNet-100 has 12.1."""
        detector, recogniser = (OnnxNetwork(onnx.load(full_size / name)).to(META) for name in PUBLISHED_BYTES)
        picture = torch.zeros(1, 3, 480, 640, device=META)
        crop = torch.zeros(1, 3, 112, 112, device=META)
        assert flop(lambda: detector(picture)) / 2 == pytest.approx(10.0e9, rel=0.01)
        assert flop(lambda: recogniser(crop)) / 2 == pytest.approx(12.1e9, rel=0.01)
        assert operators(lambda: detector(picture)) <= 133
        assert operators(lambda: recogniser(crop)) <= 254

    def test_memory_is_the_weights_once_and_little_more(self, full_size: Path):
        detector, recogniser = (OnnxNetwork(onnx.load(full_size / name)).to(META) for name in PUBLISHED_BYTES)
        for network, size in zip((detector, recogniser), PUBLISHED_BYTES.values(), strict=True):
            assert 0.99 * size < sum(tensor.nbytes for tensor in network.buffers()) < size
        assert peak_of_live_bytes(lambda: detector(torch.zeros(1, 3, 640, 640, device=META)))[0] <= 51e6
        assert peak_of_live_bytes(lambda: recogniser(torch.zeros(1, 3, 112, 112, device=META)))[0] <= 10e6

    def test_outputs_are_those_of_onnxruntime(self, full_size: Path):
        by_both(onnx.load(full_size / DETECTOR), *(pixels(1, 3, side, side) for side in DETECTION_SIZES))
        by_both(onnx.load(full_size / RECOGNISER), pixels(1, 3, 112, 112))

    def test_the_smaller_recogniser_too(self, tmp_path: Path):
        write_recogniser(tmp_path / "w600k_r50.onnx", 3, IRESNET_50)
        by_both(onnx.load(tmp_path / "w600k_r50.onnx"), pixels(1, 3, 112, 112))

    def test_the_same_face_is_found(self, full_size: Path, portrait: np.ndarray):
        compare(both(full_size), portrait, data.coffee())

    def test_tf32_turns_an_embedding_by_less_than_a_tenth_of_a_degree(self, full_size: Path):
        """And moves no keypoint by 0.1 px. The convolutions' inputs are rounded as tensor cores round them."""
        crop, picture = (normalised(photograph("astronaut", side, side)) for side in (112, 640))
        recogniser, detector = (OnnxNetwork(onnx.load(full_size / name)) for name in (RECOGNISER, DETECTOR))
        with torch.inference_mode():
            exact, points = recogniser(crop)[0][0].double(), detector(picture)[6:]
            with Tf32Convolutions():
                rounded, moved = recogniser(crop)[0][0].double(), detector(picture)[6:]
        assert not torch.equal(exact, rounded)
        cosine = F.cosine_similarity(exact, rounded, dim=0)
        assert torch.rad2deg(torch.arccos(cosine)) < 0.1
        for stride, before, after in zip((8, 16, 32), points, moved, strict=True):
            assert 0 < (before - after).abs().max() * stride < 0.1


def normalised(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy((picture.astype(np.float32).transpose(2, 0, 1)[None] - 127.5) / 127.5)


class Tf32Convolutions(TorchFunctionMode):
    """Rounds inputs and weights of convolutions to TF32's 10 bits of mantissa, to nearest even."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.conv2d:
            args = (to_tf32(args[0]), to_tf32(args[1]), *args[2:])
        return func(*args, **(kwargs or {}))


def to_tf32(value: torch.Tensor) -> torch.Tensor:
    bits = value.contiguous().view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)
