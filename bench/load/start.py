"""How fast a gateway is there, and how large it is."""

from __future__ import annotations

import time
from statistics import median
from typing import Final

from bench.load.stack import Site, has_loaded, resident_mib
from bench.report import Report

_STARTS: Final = 5


def start(report: Report, site: Site, scale: float) -> None:
    """From the start of the process to the first 200 of its probe; memory then."""
    seconds, sizes, with_torch = [], [], False
    for _ in range(max(2, round(_STARTS * scale))):
        began = time.monotonic()
        with site.stack.gateway() as (_, pid):
            seconds.append(time.monotonic() - began)
            sizes.append(resident_mib(pid))
            with_torch |= has_loaded(pid, "libtorch")
    note = f"median of {len(seconds)} starts; fastest {min(seconds):.2f} s"
    report.add("gateway: start to the first answer", median(seconds), "s", goal="<= 1.5", note=note)
    report.add("gateway: resident memory after start", median(sizes), "MiB", goal="<= 110")
    report.add("gateway: torch loaded", float(with_torch), "", goal="== 0")
