"""Functions of a network, executed in the fastest mode that is ready for the inputs: captured, compiled or eager.

Every mode gives the same result but for rounding. What is slow (compiling, capturing) happens in `Runner.compile` and
`Runner.capture`, never in a call: inputs whose shapes were not warmed up run eagerly.

`throttled` keeps the host close to the device: a kernel launch returns long before its kernel has run.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from typing import Any, Final, Generic, Literal, Protocol, TypeVar

import torch

from models.errors import CompilationFailed
from models.options import Compile
from models.pipeline import ExecutionMode, ExecutionReport, OnStep
from models.runtime.compiler import Compiler, mark_dynamic
from models.runtime.cuda_graphs import CapturedGraph, CudaGraphCapturer, GraphCapturer
from models.runtime.tree import Pytree, input_signature, to_inference_contiguous, tree_map

Result = TypeVar("Result")
Stance = Literal["default", "eager_on_recompile", "fail_on_recompile"]
"""`torch.compiler.set_stance`: for a call that no compiled graph serves, compile, run eagerly, or raise."""

_log = logging.getLogger(__name__)
_MAX_REASON_LENGTH: Final = 500


@dataclass(frozen=True)
class Execution:
    """How functions are executed on a device: with what compiler and graph capturer; with neither, eagerly.

    `dynamic`: functions are compiled for all sizes too, not only for those that are captured. `required`: a failure of
    either is an error; else the function falls back to the next slower mode.
    """

    compiler: Compiler | None = None
    capturer: GraphCapturer | None = None
    stance: Stance = "eager_on_recompile"
    dynamic: bool = True
    required: bool = False


EAGER: Final = Execution()
"""Functions run eagerly."""


def execution_for(device: torch.device, compile_: Compile) -> Execution:
    """What `FACELIGHT_COMPILE` means on `device`.

    `auto` compiles for CUDA alone, `fixed` there for the captured sizes only; `off` never; `on` and `max` always, and a
    failure is an error; `max` searches long for the fastest kernels. Graphs are captured on CUDA in any case: they need
    no compiler, and change no result.
    """
    on_cuda = device.type == "cuda"
    capturer = CudaGraphCapturer(device) if on_cuda else None
    if compile_ == "off" or (compile_ in ("auto", "fixed") and not on_cuda):
        return Execution(capturer=capturer)
    # Inductor has CUDA graphs of its own: it would capture them in the request path, and for one thread alone.
    mode = "max-autotune-no-cudagraphs" if compile_ == "max" else "default"
    return Execution(Compiler(mode=mode), capturer, dynamic=compile_ != "fixed", required=compile_ in ("on", "max"))


def execution_report(steps: Runner[Any], *others: Runner[Any], fallbacks: Iterable[str] = ()) -> ExecutionReport:
    """The mode of the runner of the denoise steps; what any runner could not compile or capture, and `fallbacks`."""
    all_fallbacks = [*chain.from_iterable(runner.fallbacks for runner in (steps, *others)), *fallbacks]
    return ExecutionReport(steps.mode, "; ".join(all_fallbacks))


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

        It serves other networks with weights of the same shapes too; a call for another network makes sure of that, and
        compiles once more where it does not hold. Call it again for what one graph cannot serve: a batch of one row,
        another structure. Raises `ValueError` for examples that `mark_dynamic` refuses.
        """
        if self._compiler is None or not self._execution.dynamic:
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
        began = time.monotonic()
        try:
            # What is compiled serves this network, as it has just shown. If not, capturing would compile within a
            # capture, or capture the eager function without a word.
            with torch.compiler.set_stance("fail_on_recompile"):
                graph = CapturedGraph(
                    partial(function, network), [item.contiguous for item in given], self._execution.capturer
                )
        except Exception as error:  # noqa: BLE001 - without a graph the result is the same, only slower
            self._fall_back("cannot be captured", error)
            return
        # The network is kept besides: no other one may get its id.
        self._graphs[id(network), _signature(given)] = (network, graph)
        _log.info("%s is captured after %.1f s, for %s", self.name, time.monotonic() - began, given[0].signature)

    def _compile_static(self, network: Any, given: Sequence[_Input]) -> Callable[..., Result]:
        """The function compiled for fixed shapes and this network, or the function itself if that fails.

        Networks share what is compiled for equal shapes; one that it does not serve has it compiled once more.
        """
        if self._compiler is None:
            return self._function
        signature = _signature(given)
        compiled = self._static.get(signature) or self._compiler.compiled(self._function, dynamic=False)
        if not self._try_compile(compiled, network, [item.contiguous for item in given]):
            return self._function
        self._static[signature] = compiled
        return compiled

    def _try_compile(
        self, compiled: Callable[..., Result], network: Any, inputs: Sequence[Pytree], stance: Stance = "default"
    ) -> bool:
        """Call what is compiled, which compiles what does not serve the call yet.

        Once that fails, nothing is compiled any more.
        """
        began = time.monotonic()
        try:
            with torch.compiler.set_stance(stance):
                compiled(network, *inputs)
        except Exception as error:  # noqa: BLE001 - whatever the compiler lacks or stumbles over, requests are served
            self._compiler = None
            self._fall_back("cannot be compiled", error)
            return False
        if stance == "default":
            _log.info("%s is compiled after %.1f s", self.name, time.monotonic() - began)
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


MAX_STEPS_IN_FLIGHT: Final = 2
"""Steps that the host may be ahead: enough to keep the device busy, few enough for a cancelled request to end soon."""


class Event(Protocol):
    """A point in the device's stream of work, such as `torch.cuda.Event`."""

    def synchronize(self) -> None:
        """Return when the device has passed it."""


class StepThrottle:
    """An `OnStep` that blocks while more than `MAX_STEPS_IN_FLIGHT` steps are launched and not done."""

    def __init__(self, on_step: OnStep, record_event: Callable[[], Event]) -> None:
        """`record_event` records an event behind all work that was launched so far."""
        self._on_step, self._record_event = on_step, record_event
        self._in_flight: deque[Event] = deque()

    def __call__(self, step: int, total: int) -> None:
        """Wait for the step that is `MAX_STEPS_IN_FLIGHT` behind, then report this one."""
        self._in_flight.append(self._record_event())
        if len(self._in_flight) > MAX_STEPS_IN_FLIGHT:
            self._in_flight.popleft().synchronize()
        self._on_step(step, total)


def throttled(on_step: OnStep, device: torch.device) -> OnStep:
    """`on_step` behind a `StepThrottle` on CUDA; other devices run synchronously and need none."""
    return StepThrottle(on_step, _record_cuda_event) if device.type == "cuda" else on_step


def _record_cuda_event() -> Event:
    # Blocking: a thread that sleeps instead of spinning leaves the processor to those that decode and encode.
    event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    event.record()
    return event
