"""How fast requests are on a device, against diffusers in several ways and against the device's own limit.

`python -m bench.gpu --only attention|a|b|stages|sizes|ref|all`. Networks are of full size with random weights, made on
the device; no file is read and no network connection is made. `reference` is the published implementation's way,
`diffusers` plain diffusers with batched guidance, `diffusers_compiled` the same under `torch.compile` with
max-autotune; the roofline is the minimum of work at the rate of large matrix products. Without an accelerator the same
runs on the processor: `--device cpu --reduced`.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: the project is what lies around this folder
    sys.path[0] = str(Path(__file__).parents[1])

import argparse
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Final, get_args

import torch

from bench.device import attention, compiled, requests, sizes, stages
from bench.device.compiled import Compilation
from bench.device.endpoints import Endpoint, IcLightEndpoint, PulidEndpoint
from bench.device.requests import Bench
from bench.report import RESULTS, Report, Row
from models.options import Compile
from models.runtime.runner import Execution, execution_for
from workers.engine.model_loader import set_up_cuda

SECTIONS: Final = ("attention", "a", "b", "stages", "sizes", "ref")
"""Attention by kernel, requests of both endpoints, where their time goes, requests of unseen sizes, and
`diffusers_compiled`: in the order of `all`, in which attention is timed before anything is warm."""


class Session:
    """One run: both endpoints are made when a section first asks for them."""

    def __init__(self, bench: Bench, execution: Execution, compilation: Compilation) -> None:
        """Measure as `bench` says; `execution` is ours, `compilation` that of `diffusers_compiled`."""
        self._bench, self._execution, self._compilation = bench, execution, compilation

    def rows(self, section: str) -> Iterator[Row]:
        """The rows of one of `SECTIONS`."""
        if section == "attention":
            yield from attention.rows(self._bench, self._pulid, self._ic_light)
        elif section == "a":
            yield from requests.rows(self._bench, self._pulid)
        elif section == "b":
            yield from requests.rows(self._bench, self._ic_light)
        else:
            for endpoint in (self._pulid, self._ic_light):
                yield requests.warm_up(endpoint)
                yield from self._of_both(section, endpoint)

    def _of_both(self, section: str, endpoint: Endpoint) -> Iterator[Row]:
        if section == "stages":
            return stages.rows(self._bench, endpoint)
        if section == "sizes":
            return sizes.rows(self._bench, endpoint)
        return compiled.rows(self._bench, endpoint, self._compilation)

    @cached_property
    def _pulid(self) -> PulidEndpoint:
        return PulidEndpoint(self._bench.device, self._bench.reduced, self._execution)

    @cached_property
    def _ic_light(self) -> IcLightEndpoint:
        return IcLightEndpoint(self._bench.device, self._bench.reduced, self._execution)


def main(argv: Sequence[str] | None = None) -> Path:
    """Measure what the arguments choose; the path of the result."""
    arguments = _parser().parse_args(argv)
    device = torch.device(arguments.device)
    if device.type == "cuda":
        set_up_cuda(device)
    bench = Bench(device, arguments.reduced, arguments.repeats)
    session = Session(bench, execution_for(device, arguments.compile), Compilation(arguments.backend))
    what = f"gpu-{arguments.only}{'-reduced' if arguments.reduced else ''}"
    with Report(what, _name(device), arguments.out, arguments.budget_s) as report:
        torch.manual_seed(0)
        for section in SECTIONS if arguments.only == "all" else (arguments.only,):
            for measured in session.rows(section):
                report.put(measured)
    return report.path


def _parser() -> argparse.ArgumentParser:
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--only", choices=(*SECTIONS, "all"), default="all", help="what to measure (%(default)s)")
    parser.add_argument("--device", default=default, help="where (%(default)s)")
    parser.add_argument("--reduced", action="store_true", help="narrow networks and small pictures")
    parser.add_argument("--repeats", type=int, default=20, help="how often each time is taken (%(default)s)")
    parser.add_argument("--budget-s", type=float, default=520, help="seconds after which the run ends (%(default)s)")
    parser.add_argument("--compile", choices=get_args(Compile), default="auto", help="how ours runs (%(default)s)")
    parser.add_argument("--backend", default="inductor", help="backend of diffusers_compiled (%(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    return parser


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


if __name__ == "__main__":
    main()
