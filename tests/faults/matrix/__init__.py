"""The faults, one module per kind, and all of them in the order of the published table."""

from __future__ import annotations

from tests.faults.finding import place
from tests.faults.matrix import (
    borrowed,
    clocks,
    crowd,
    device,
    disk,
    door,
    failover,
    garbage,
    hooks,
    leaving,
    outage,
    slow,
    versions,
    weights,
    workers,
)

MODULES = (
    workers,
    garbage,
    device,
    outage,
    failover,
    disk,
    door,
    versions,
    leaving,
    clocks,
    borrowed,
    slow,
    crowd,
    hooks,
    weights,
)

_ALL = [fault for module in MODULES for fault in module.FAULTS]

FAULTS = {fault.id: fault for fault in sorted(_ALL, key=lambda fault: place(fault.id))}
"""All faults by id."""
