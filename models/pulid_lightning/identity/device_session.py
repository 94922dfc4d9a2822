"""A face network on the device, behind the one method of an onnxruntime session that insightface calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from models.pulid_lightning.identity.onnx_network import OnnxNetwork
from models.pulid_lightning.identity.onnx_operators import UnsupportedGraph
from models.runtime.load import for_device

Array = NDArray[np.float32]

_HIGH_PRIORITY: Final = -1
_SHAPE: Final = (1, 3, 320, 320)
"""Input of the check where the file leaves its size open."""
_TOLERANCE: Final = 1e-3
"""Deviation from onnxruntime, relative to an output's largest value or 1: another computation would give about 1.

Not relative to small values: onnxruntime computes a sigmoid with an error of 1e-7, whatever its value.
"""


class DeviceThread:
    """A thread and a stream of their own for the face networks of a process.

    Faces are found while requests are prepared: by the prefetch thread beside a run of the main thread, or by the main
    thread when nothing runs. Within `run` they would delay every batch, and a picture without a face would be known too
    late to be refused alone. The stream has priority over the run's, behind whose kernels a few milliseconds of work
    would wait for most of a second. Both callers share one thread because torch keeps cuDNN's plans per thread. Nothing
    of a run is shared with it: the memory of graphs is their own, and they are captured before any request is prepared.
    """

    def __init__(self, device: torch.device) -> None:
        """The thread starts with the first work for it."""
        self.device = device
        self._thread = ThreadPoolExecutor(1, "faces")
        self._stream = torch.cuda.Stream(device, priority=_HIGH_PRIORITY) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def place(self, network: OnnxNetwork) -> OnnxNetwork:
        """Move a network to the device."""
        return self._thread.submit(self._place, network).result()

    def run(self, network: OnnxNetwork, batch: Array) -> list[Array]:
        """The network's outputs, in host memory."""
        return self._thread.submit(self._run, network, batch).result()

    def _place(self, network: OnnxNetwork) -> OnnxNetwork:
        with self._on_stream():
            return for_device(network.to(self.device), self.device)

    @torch.inference_mode()
    def _run(self, network: OnnxNetwork, batch: Array) -> list[Array]:
        with self._on_stream():
            outputs = network(torch.from_numpy(batch).to(self.device))
            # To read them waits for this stream alone.
            return [output.cpu().numpy() for output in outputs]

    def _on_stream(self) -> AbstractContextManager[Any]:
        # It makes the stream's device the thread's current one too.
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)


class DeviceSession:
    """Runs an ONNX network on a device.

    On CUDA convolutions are computed in TF32, torch's default and onnxruntime's: emulated with random weights, that
    turns an embedding by 0.05 degrees, and moves no keypoint by 0.1 px.
    """

    def __init__(self, path: Path, reference: onnxruntime.InferenceSession, thread: DeviceThread) -> None:
        """Load the network of the file at `path`, which `reference` has loaded for the CPU.

        It is run on the CPU first, beside `reference`. Raises `UnsupportedGraph` if torch cannot run it or computes
        something else.
        """
        network = _built(onnx.load(path), reference)
        self._names = [output.name for output in reference.get_outputs()]
        self._network, self._thread = thread.place(network), thread

    def run(self, names: Sequence[str], feed: Mapping[str, Array]) -> list[Array]:
        """The outputs of these names for one input, as `onnxruntime.InferenceSession.run`."""
        (batch,) = feed.values()
        outputs = dict(zip(self._names, self._thread.run(self._network, batch), strict=True))
        return [outputs[name] for name in names]


def _built(model: onnx.ModelProto, reference: onnxruntime.InferenceSession) -> OnnxNetwork:
    """The network of a model, if it computes on a random input what `reference` does."""
    named = reference.get_inputs()[0]
    shape = [side if isinstance(side, int) else default for side, default in zip(named.shape, _SHAPE, strict=True)]
    batch = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    try:
        network = OnnxNetwork(model)
        with torch.inference_mode():
            outputs = [output.numpy() for output in network(torch.from_numpy(batch))]
    except (UnsupportedGraph, MemoryError):
        raise
    except Exception as error:  # broad: any error of torch on a graph it was not tested with
        raise UnsupportedGraph(f"{type(error).__name__}: {error}") from error
    for ours, theirs in zip(outputs, reference.run(None, {named.name: batch}), strict=True):
        if ours.shape != theirs.shape:
            raise UnsupportedGraph(f"an output of shape {list(ours.shape)}, onnxruntime's is {list(theirs.shape)}")
        deviation = float(np.abs(ours - theirs).max() / np.abs(theirs).max(initial=1.0))
        if not deviation <= _TOLERANCE:  # true for nan too
            raise UnsupportedGraph(f"outputs that deviate from onnxruntime's by {deviation:.1e}")
    return network
