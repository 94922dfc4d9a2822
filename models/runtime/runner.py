"""Functions of a network, run the fastest way that is ready for the inputs at hand.

Every way gives the same result but for rounding. What is slow to get ready (compiling, recording) happens in
`Runner.compile` and `Runner.capture`, never in a call: sizes that nobody foresaw are served as the function stands.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final, Generic, Literal, TypeVar

import torch

from models.pipeline import Compile
from models.runtime.compiler import Compiler, freed
from models.runtime.cuda_graphs import CapturedGraph, CudaRecorder, Recorder
from models.runtime.tree import Value, mapped, plain, signature

Result = TypeVar("Result")
Stance = Literal["default", "eager_on_recompile", "fail_on_recompile"]
"""What a call does that nothing compiled can serve: compile, run the function as it stands, raise `RuntimeError`."""

_log = logging.getLogger(__name__)
_LONGEST_REASON: Final = 500


@dataclass(frozen=True)
class Execution:
    """The ways that there are on a device: what compiles, and what records. Neither: functions run as they stand."""

    compiler: Compiler | None = None
    record: Recorder | None = None
    stance: Stance = "eager_on_recompile"


EAGER: Final = Execution()
"""Functions run as they stand."""


def execution_for(device: torch.device, compile_: Compile) -> Execution:
    """What the operator's choice means on `device`.

    `auto` compiles for CUDA alone; `off` never; `max` searches long for the fastest kernels. Graphs are recorded on
    CUDA in any case: they need no compiler, and change no result.
    """
    on_cuda = device.type == "cuda"
    record = CudaRecorder(device) if on_cuda else None
    if compile_ == "off" or (compile_ == "auto" and not on_cuda):
        return Execution(record=record)
    # Inductor has graphs of its own: they would have to be recorded in the request path, and by one thread alone.
    return Execution(Compiler(mode="max-autotune-no-cudagraphs" if compile_ == "max" else "default"), record)


class Runner(Generic[Result]):
    """A function of a network and of values, with all that was compiled and recorded for it. For one thread."""

    def __init__(self, function: Callable[..., Result], execution: Execution = EAGER) -> None:
        """Take a plain function `function(network, *inputs)`: it must not write into its inputs."""
        self._function, self._execution = function, execution
        self._compiler = execution.compiler
        self._compiled: Callable[..., Result] | None = None
        self._fixed: dict[str, Callable[..., Result]] = {}
        self._graphs: dict[tuple[int, str], tuple[object, CapturedGraph[Result]]] = {}
        self._seen: list[_Input] = []

    @torch.inference_mode()
    def __call__(self, network: Any, *inputs: Value) -> Result:
        """`function(network, *inputs)`, in inference mode. The result is nobody else's.

        Tensors within tuples must not be written into between two calls.
        """
        if not self._graphs and self._compiled is None:
            return self._function(network, *inputs)
        given = self._read(inputs)
        if found := self._graphs.get((id(network), _key(given))):
            return found[1](inputs)
        if self._compiled is None:
            return self._function(network, *inputs)
        with torch.compiler.set_stance(self._execution.stance):
            return self._compiled(network, *(value.plain for value in given))

    @torch.inference_mode()
    def compile(self, network: Any, inputs: Sequence[Value], others: Sequence[Value]) -> None:
        """Compile one graph in which sizes that differ between the two examples are free, and all others fixed.

        Another network with weights of the same shapes is served by it too. Call it again for what one graph cannot
        serve: a batch of one row, another structure. Raises `ValueError` for examples that fix what they mean to free.
        """
        if self._compiler is None:
            return
        example, proof = freed(inputs, others), mapped(plain, tuple(others))
        compiled = self._compiled or self._compiler.compiled(self._function, free=True)
        if self._attempt(compiled, network, example) and self._attempt(compiled, network, proof, "fail_on_recompile"):
            self._compiled = compiled

    @torch.inference_mode()
    def capture(self, network: Any, *inputs: Value) -> None:
        """Record the function for this network and inputs of these sizes, compiled for them alone if that works."""
        given = [_Input(value) for value in inputs]
        if self._execution.record is None or (id(network), _key(given)) in self._graphs:
            return
        function = self._fix(network, given)
        try:
            with torch.compiler.set_stance("eager_on_recompile"):
                graph = CapturedGraph(
                    partial(function, network), [value.plain for value in given], self._execution.record
                )
        except Exception as error:  # noqa: BLE001 - without a graph the same work is done, in more time
            _log.warning("%s cannot be recorded: %s", self.name, _reason(error))
            return
        # The network is kept besides: no other one may get its identity.
        self._graphs[id(network), _key(given)] = (network, graph)

    def _fix(self, network: Any, given: Sequence[_Input]) -> Callable[..., Result]:
        """The function compiled for fixed sizes, or as it stands if it cannot be."""
        key = _key(given)
        if self._compiler is not None and key not in self._fixed:
            compiled = self._compiler.compiled(self._function, free=False)
            if self._attempt(compiled, network, [value.plain for value in given]):
                self._fixed[key] = compiled
        return self._fixed.get(key, self._function)

    def _attempt(
        self, compiled: Callable[..., Result], network: Any, inputs: Sequence[Value], stance: Stance = "default"
    ) -> bool:
        """Compile by a first call; without success nothing is compiled any more."""
        try:
            with torch.compiler.set_stance(stance):
                compiled(network, *inputs)
        except Exception as error:  # noqa: BLE001 - whatever the compiler lacks or stumbles over, requests are served
            _log.warning("%s runs uncompiled: %s", self.name, _reason(error))
            self._compiler = None
            return False
        return True

    def _read(self, inputs: Sequence[Value]) -> list[_Input]:
        """What is known of the inputs; tuples that were read at the last call are not read again."""
        last = self._seen if len(self._seen) == len(inputs) else [None] * len(inputs)
        self._seen = [
            known if known and isinstance(value, tuple) and known.value is value else _Input(value)
            for known, value in zip(last, inputs, strict=True)
        ]
        return self._seen

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self._function, "__qualname__", repr(self._function))


class _Input:
    """One input of a call, and what is worked out of it but once."""

    def __init__(self, value: Value) -> None:
        self.value, self.signature = value, signature(value)

    @cached_property
    def plain(self) -> Value:
        """The same in the layout that compiled functions expect."""
        return mapped(plain, self.value)


def _key(given: Sequence[_Input]) -> str:
    return " ".join(value.signature for value in given)


def _reason(error: Exception) -> str:
    """What went wrong, in one line; compilers tell at length."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:_LONGEST_REASON]
