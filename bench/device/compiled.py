"""Section `ref` of `bench.gpu`: `diffusers_compiled` against ours.

`diffusers_compiled` is `diffusers` with UNet and VAE compiled for exactly the sizes of the default request,
channels-last, each network as one graph, with max-autotune and Inductor's own CUDA graphs. That takes minutes before
the first request; a server that has to serve any size cannot do it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from bench.device.endpoints import Endpoint
from bench.device.requests import Bench, by_default
from bench.report import Row, row
from bench.timing import Timing, interleaved


@dataclass(frozen=True)
class Compilation:
    """How it is compiled: `inductor` with max-autotune, or another backend, to try this file without a compiler."""

    backend: str = "inductor"

    def __call__(self, network: Any) -> Callable[..., Any]:
        """The network, to be compiled by its first call."""
        mode = "max-autotune" if self.backend == "inductor" else None
        compiled: Callable[..., Any] = torch.compile(
            network, backend=self.backend, fullgraph=True, dynamic=False, mode=mode
        )

        def call(*inputs: Any, **named: Any) -> Any:
            # Its graphs write every result into the same memory; the step before is over.
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            return compiled(*inputs, **named)

        return call


@torch.inference_mode()
def rows(bench: Bench, endpoint: Endpoint, compilation: Compilation) -> Iterator[Row]:
    """A default request by diffusers_compiled and by ours, in turns."""
    name, prepared = endpoint.name, endpoint.prepare()
    start = time.perf_counter()
    try:
        plain = by_default(endpoint.compiled_request(prepared, compilation))
        plain()
        plain()
    except Exception as error:  # noqa: BLE001 - whatever the compiler lacks here, the rest of the run is worth having
        yield row(
            f"{name}: request, diffusers_compiled",
            None,
            "ms",
            note=f"{type(error).__name__}: {str(error).strip()[:200]}",
        )
        return
    yield row(f"{name}: diffusers_compiled is ready after", time.perf_counter() - start, "s")
    yield from _compared(
        bench,
        endpoint,
        interleaved({"ours": endpoint.run(prepared), "diffusers_compiled": plain}, bench.device, bench.repeats),
    )


def _compared(bench: Bench, endpoint: Endpoint, timings: dict[str, Timing]) -> Iterator[Row]:
    roofline = bench.roofline(endpoint.least(1))
    for way, timing in timings.items():
        yield row(
            f"{endpoint.name}: request beside diffusers_compiled, {way}",
            timing.median,
            "ms",
            note=f"{timing.median / roofline:.3g} x roofline",
        )
    ratio = timings["diffusers_compiled"].median / timings["ours"].median
    yield row(
        f"{endpoint.name}: request, diffusers_compiled / ours", ratio, "", endpoint.goal("diffusers_compiled / ours")
    )
