"""The faults, one module per kind, and all of them in the order of the published table."""

from __future__ import annotations
