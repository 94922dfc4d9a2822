"""Functions of a network, executed in the fastest mode that is ready for the inputs: captured, compiled or eager.

Every mode gives the same result but for rounding. What is slow (compiling, capturing) happens in `Runner.compile` and
`Runner.capture`, never in a call: inputs whose shapes were not warmed up run eagerly.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final, Generic, Literal, TypeVar

import torch

from models.errors import CompilationFailed
from models.options import Compile
from models.pipeline import ExecutionMode, ExecutionReport
from models.runtime.compiler import Compiler, mark_dynamic
from models.runtime.cuda_graphs import CapturedGraph, CudaGraphCapturer, GraphCapturer
from models.runtime.tree import Pytree, input_signature, to_inference_contiguous, tree_map

Result = TypeVar("Result")
Stance = Literal["default", "eager_on_recompile", "fail_on_recompile"]
"""`torch.compiler.set_stance`: for a call that no compiled graph serves, compile, run eagerly, or raise."""

_log = logging.getLogger(__name__)
_MAX_REASON_LENGTH: Final = 500
_MODES: Final[tuple[ExecutionMode, ...]] = ("eager", "compiled", "captured")
"""From slow to fast."""


@dataclass(frozen=True)
class Execution:
    """How functions are executed on a device: with what compiler and graph capturer; with neither, eagerly.

    `required`: a failure of either is an error; else the function falls back to the next slower mode.
    """

    compiler: Compiler | None = None
    capturer: GraphCapturer | None = None
    stance: Stance = "eager_on_recompile"
    required: bool = False


EAGER: Final = Execution()
"""Functions run eagerly."""


def execution_for(device: torch.device, compile_: Compile) -> Execution:
    """What `FACELIGHT_COMPILE` means on `device`.

    `auto` compiles for CUDA alone; `off` never; `on` and `max` always, and a failure is an error; `max` searches long
    for the fastest kernels. Graphs are captured on CUDA in any case: they need no compiler, and change no result.
    """
    on_cuda = device.type == "cuda"
    capturer = CudaGraphCapturer(device) if on_cuda else None
    if compile_ == "off" or (compile_ == "auto" and not on_cuda):
        return Execution(capturer=capturer)
    # Inductor has CUDA graphs of its own: it would capture them in the request path, and for one thread alone.
    mode = "max-autotune-no-cudagraphs" if compile_ == "max" else "default"
    return Execution(Compiler(mode=mode), capturer, required=compile_ in ("on", "max"))


def execution_report(*runners: Runner[Any]) -> ExecutionReport:
    """The slowest mode of the runners, and what any of them could not compile or capture."""
    fallbacks = [fallback for runner in runners for fallback in runner.fallbacks]
    return ExecutionReport(min((runner.mode for runner in runners), key=_MODES.index), "; ".join(fallbacks))


class Runner(Generic[Result]):
    """A function of a network and of pytrees, with its compiled and captured graphs. For one thread."""

    def __init__(self, function: Callable[..., Result], execution: Execution = EAGER) -> None:
        """Take a plain function `function(network, *inputs)` that does not write into its inputs."""
        self._function, self._execution = function, execution
        self._compiler = execution.compiler
        self._dynamic: Callable[..., Result] | None = None
        self._static: dict[str, Callable[..., Result]] = {}
        self._graphs: dict[tuple[int, str], tuple[object, CapturedGraph[Result]]] = {}
        self._last_inputs: list[_Input] = []
        self.fallbacks: list[str] = []
        """What could not be compiled or captured, and why."""

    @torch.inference_mode()
    def __call__(self, network: Any, *inputs: Pytree) -> Result:
        """`function(network, *inputs)`, in inference mode. The result belongs to the caller.

        Tensors within tuples must not be written into between two calls.
        """
        if not self._graphs and self._dynamic is None:
            return self._function(network, *inputs)
        given = self._read(inputs)
        if found := self._graphs.get((id(network), _signature(given))):
            return found[1](inputs)
        if self._dynamic is None:
            return self._function(network, *inputs)
        with torch.compiler.set_stance(self._execution.stance):
            return self._dynamic(network, *(item.contiguous for item in given))

    @torch.inference_mode()
    def compile(self, network: Any, inputs: Sequence[Pytree], others: Sequence[Pytree]) -> None:
        """Compile one graph in which dimensions that differ between the two examples are dynamic, all others static.

        It serves other networks with weights of the same shapes too. Call it again for what one graph cannot serve: a
        batch of one row, another structure. Raises `ValueError` for examples that `mark_dynamic` refuses.
        """
        if self._compiler is None:
            return
        example = mark_dynamic(inputs, others)
        counterexample = tree_map(to_inference_contiguous, tuple(others))
        compiled = self._dynamic or self._compiler.compiled(self._function, dynamic=True)
        # The second example must not recompile: that shows that its dimensions are dynamic indeed.
        if self._try_compile(compiled, network, example) and self._try_compile(
            compiled, network, counterexample, "fail_on_recompile"
        ):
            self._dynamic = compiled

    @torch.inference_mode()
    def capture(self, network: Any, *inputs: Pytree) -> None:
        """Capture the function for this network and inputs of these shapes, compiled for these shapes if possible."""
        given = [_Input(tree) for tree in inputs]
        if self._execution.capturer is None or (id(network), _signature(given)) in self._graphs:
            return
        function = self._compile_static(network, given)
        try:
            with torch.compiler.set_stance("eager_on_recompile"):
                graph = CapturedGraph(
                    partial(function, network), [item.contiguous for item in given], self._execution.capturer
                )
        except Exception as error:  # noqa: BLE001 - without a graph the result is the same, only slower
            self._fall_back("cannot be captured", error)
            return
        # The network is kept besides: no other one may get its id.
        self._graphs[id(network), _signature(given)] = (network, graph)

    def _compile_static(self, network: Any, given: Sequence[_Input]) -> Callable[..., Result]:
        """The function compiled for fixed shapes, or the function itself if that fails."""
        signature = _signature(given)
        if self._compiler is not None and signature not in self._static:
            compiled = self._compiler.compiled(self._function, dynamic=False)
            if self._try_compile(compiled, network, [item.contiguous for item in given]):
                self._static[signature] = compiled
        return self._static.get(signature, self._function)

    def _try_compile(
        self, compiled: Callable[..., Result], network: Any, inputs: Sequence[Pytree], stance: Stance = "default"
    ) -> bool:
        """Compile by a first call; once that fails, nothing is compiled any more."""
        try:
            with torch.compiler.set_stance(stance):
                compiled(network, *inputs)
        except Exception as error:  # noqa: BLE001 - whatever the compiler lacks or stumbles over, requests are served
            self._compiler = None
            self._fall_back("cannot be compiled", error)
            return False
        return True

    def _fall_back(self, what: str, error: Exception) -> None:
        """Note that a mode is not available; raises `CompilationFailed` if it is required."""
        reason = f"{self.name} {what}: {_reason(error)}"
        if self._execution.required:
            raise CompilationFailed(reason) from error
        _log.warning("%s", reason)
        self.fallbacks.append(reason)

    def _read(self, inputs: Sequence[Pytree]) -> list[_Input]:
        """Signatures of the inputs; tuples that were inputs of the last call are not read again."""
        last = self._last_inputs if len(self._last_inputs) == len(inputs) else [None] * len(inputs)
        self._last_inputs = [
            known if known and isinstance(tree, tuple) and known.tree is tree else _Input(tree)
            for known, tree in zip(last, inputs, strict=True)
        ]
        return self._last_inputs

    @property
    def mode(self) -> ExecutionMode:
        """The fastest mode that is ready."""
        return "captured" if self._graphs else "compiled" if self._dynamic is not None else "eager"

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self._function, "__qualname__", repr(self._function))


class _Input:
    """One input of a call, with its signature."""

    def __init__(self, tree: Pytree) -> None:
        self.tree, self.signature = tree, input_signature(tree)

    @cached_property
    def contiguous(self) -> Pytree:
        """The same in the layout that compiled functions expect."""
        return tree_map(to_inference_contiguous, self.tree)


def _signature(given: Sequence[_Input]) -> str:
    return " ".join(item.signature for item in given)


def _reason(error: Exception) -> str:
    """The error in one line of bounded length: compilers write pages."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:_MAX_REASON_LENGTH]
