"""Lowers what a worker compiles and captures to a target's machine code, by the project's own `Runner`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import patch

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch._inductor.compile_fx import compile_fx
from torch._subclasses.fake_tensor import unset_fake_temporarily

from models.runtime.compiler import Compiler
from models.runtime.load import for_device
from models.runtime.precision import Precision, precision_of
from models.runtime.runner import Execution, Runner
from models.runtime.tree import tree_map
from models.runtime.vae_attention import vae_for_device
from tests.lowering.attention import attention_on
from tests.lowering.evaluations import Evaluation, Recorder, storage_of
from tests.lowering.fake_cuda import DEVICE, fake_cuda
from tests.lowering.targets import Target
from tests.lowering.warm_ups import WarmUpCall
from workers.engine.model_loader import set_up_cuda

_STANCE: Final = "fail_on_recompile"
"""A call that needs another graph than those of the warm-up is an error."""
Layout = Callable[[Any, torch.device], Any]
"""Makes a network ready for a device, in place, as loading does."""


def as_loaded(network: Any, device: torch.device) -> Any:
    """A network as the loaders of the models leave it on `device`."""
    return vae_for_device(network, device) if isinstance(network, AutoencoderKL) else for_device(network, device)


class Lowering:
    """Runners whose graphs are lowered for the fake device; `graphs` counts them."""

    def __init__(self, layout: Layout = as_loaded) -> None:
        self.graphs = 0
        self._layout = layout
        self._dynamic = False
        self._evaluations: list[Evaluation] = []
        self._recorder: Recorder | None = None
        self._runners: dict[int, Runner[Any]] = {}
        self._weights: dict[int, str] = {}
        self._placed: set[int] = set()

    @torch.inference_mode()
    def repeat(self, call: WarmUpCall) -> list[Evaluation]:
        """Make a warm-up call again, on the fake device. Returns the evaluations that it led to."""
        runner = self._runners.setdefault(id(call.runner), self._runner_like(call))
        network, first, *others = self._place(call.network), *(tree_map(_fake, example) for example in call.examples)
        self._evaluations, self._dynamic = [], call.kind == "compile"
        if call.kind == "compile":
            runner.compile(network, first, *others)
            return self._evaluations
        if runner.mode != "eager":  # what is to be captured must be served by the graphs for any size too
            runner(network, *first)
        if call.kind == "capture":
            runner.capture(network, *first)
        return self._evaluations

    def _runner_like(self, call: WarmUpCall) -> Runner[Any]:
        """The same function, compiled if the pipeline compiles it, or captured as it is."""
        if call.compiled:
            execution = Execution(Compiler(self._backend), lambda run: (_replay, run()), _STANCE, required=True)
        else:
            execution = Execution(None, lambda run: (_replay, self._record(run, (), False)), _STANCE, required=True)
        return Runner(call.runner._function, execution)

    def launch(self, kernel: Any, arguments: tuple[Any, ...]) -> None:
        """Note that a Triton kernel is launched."""
        assert self._recorder is not None, "a kernel is launched outside of a graph"
        self._recorder.launch(kernel, arguments)

    def _place(self, network: Any) -> Any:
        """Put a network of the meta device onto the fake one, in place; returns the network."""
        if id(network) in self._placed:
            return network
        # Still on the meta device: modules cannot convert fake parameters.
        with unset_fake_temporarily():
            self._layout(network, DEVICE)
        for module in network.modules():
            for name, value in module._parameters.items():
                if value is not None:
                    module._parameters[name] = nn.Parameter(_fake(value), requires_grad=False)
            for name, value in module._buffers.items():
                module._buffers[name] = None if value is None else _fake(value)
        tables = {id(module.weight) for module in network.modules() if isinstance(module, nn.Embedding)}
        for name, value in network.named_parameters():
            if value.ndim > 1 and id(value) not in tables:
                self._weights[storage_of(value)] = name
        self._placed.add(id(network))
        return network

    def _backend(self, graph: torch.fx.GraphModule, inputs: Sequence[Any], **_options: Any) -> Callable[..., Any]:
        """A backend for `torch.compile`: Inductor, with every call of its graphs recorded."""
        compiled = compile_fx(graph, inputs)
        self.graphs, dynamic = self.graphs + 1, self._dynamic

        def run(*inputs: Any) -> Any:
            return self._record(lambda: compiled(*inputs), inputs, dynamic)

        return run

    def _record(self, run: Callable[[], Any], inputs: Sequence[Any], dynamic: bool) -> Any:
        self._recorder = Recorder(dynamic, inputs, self._weights)
        with self._recorder:
            result = run()
        self._evaluations.append(self._recorder.evaluation)
        self._recorder = None
        return result


@contextmanager
def lowering_for(target: Target, assemble: bool = True, layout: Layout = as_loaded) -> Iterator[Lowering]:
    """Lower for `target` within this context; once per process.

    `assemble`: compile Triton kernels to machine code; else their sources are generated only, in half the time.
    """
    lowering = Lowering(layout)
    with fake_cuda(target, lowering.launch, assemble):
        set_up_cuda(DEVICE)  # as a worker does: which attention is chosen depends on it
        attend = attention_on(target, torch.backends.cuda.cudnn_sdp_enabled())
        with patch.object(F, "scaled_dot_product_attention", attend):
            yield lowering


def served_precision(target: Target) -> Precision:
    """What a worker's networks compute in on `target`."""
    with fake_cuda(target, launch=lambda _kernel, _arguments: None):
        return precision_of(DEVICE)


def _fake(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=DEVICE)


def _replay() -> None:
    """Nothing: what ran under capture was recorded like any other call."""
