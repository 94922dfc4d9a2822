"""The faults, one module per kind, and all of them in the order of the published table."""

from __future__ import annotations

from tests.faults.finding import Fault
from tests.faults.matrix import borrowed, clocks, crowd, device, disk, door, leaving, outage, slow, weights, workers

MODULES = (workers, device, outage, disk, door, leaving, clocks, borrowed, slow, crowd, weights)


def _place(fault: Fault) -> tuple[bool, int, str]:
    """Numbered ones first, by number."""
    numbered = fault.id[1:].isdecimal()
    return not numbered, int(fault.id[1:]) if numbered else 0, fault.id


FAULTS = {fault.id: fault for fault in sorted((found for module in MODULES for found in module.FAULTS), key=_place)}
"""All faults by id."""
