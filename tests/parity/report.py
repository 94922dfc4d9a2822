"""What a comparison with a golden value came to.

The constructors never raise: a different shape, a value that is no number and a missing value are failures like any
other. Tensors and arrays of every type and device are welcome.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One comparison.

    `difference`: largest absolute difference. `tolerance`: what is allowed where the golden value is zero. `excess`:
    the worst ratio of a difference to what is allowed at its place; above 1 the row fails. `note`: anything else.
    """

    name: str
    difference: float
    tolerance: float
    excess: float
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether every difference is allowed."""
        return self.excess <= 1

    def relaxed(self, factor: float) -> Row:
        """The same comparison with `factor` times the tolerance; what has to be exact stays so."""
        return replace(self, tolerance=self.tolerance * factor, excess=self.excess / factor)


def failed(name: str, note: str) -> Row:
    """A comparison that could not be made."""
    return Row(name, np.inf, 0.0, np.inf, note)


def exact(name: str, got: Any, expected: Any) -> Row:
    """Every value equal; also for strings, None, nested lists and dictionaries."""
    if _numeric(got) and _numeric(expected):
        return within(name, got, expected, 0.0)
    return Row(name, 0.0, 0.0, 0.0) if got == expected else failed(name, f"{_short(got)} is not {_short(expected)}")


def close(name: str, got: Any, expected: Any, rtol: float, atol: float) -> Row:
    """Every difference at most `atol` + `rtol` x the golden value, as in `torch.allclose`."""
    return _compare(name, got, expected, lambda golden: atol + rtol * np.abs(golden), atol)


def within(
    name: str, got: Any, expected: Any, max_abs: float, mean_abs: float | None = None, share: float | None = None
) -> Row:
    """Every difference at most `max_abs`, their mean at most `mean_abs`, at most `share` (0..1) of the values wrong."""
    row = _compare(name, got, expected, lambda golden: np.full_like(golden, max_abs), max_abs)
    if (mean_abs is None and share is None) or not np.isfinite(row.difference):
        return row
    differences = np.abs(_floats(got) - _floats(expected))
    mean, differing = float(np.mean(differences)), float(np.mean(differences > 0))
    excess = max(row.excess, _ratio(mean, mean_abs), _ratio(differing, share))
    return replace(row, excess=excess, note=f"mean {mean:.2g}, {differing:.3%} differ")


def _compare(name: str, got: Any, expected: Any, allowed_at: Any, tolerance: float) -> Row:
    try:
        ours, golden = _floats(got), _floats(expected)
    except (TypeError, ValueError) as error:
        return failed(name, f"not numbers: {error}")
    if ours.shape != golden.shape:
        return failed(name, f"shape {ours.shape} is not {golden.shape}")
    if not (np.isfinite(ours).all() and np.isfinite(golden).all()):
        return failed(name, "not every value is a finite number")
    if golden.size == 0:
        return Row(name, 0.0, tolerance, 0.0)
    differences, allowed = np.abs(ours - golden), allowed_at(golden)
    # Where nothing is allowed, a difference is endless and none (zero by zero) is nothing.
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = differences / allowed
    return Row(name, float(differences.max()), tolerance, float(np.nan_to_num(ratios, posinf=np.inf).max()))


def _ratio(value: float, allowed: float | None) -> float:
    return 0.0 if allowed is None else value / allowed


def _floats(values: Any) -> Floats:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().double().numpy()
    return np.asarray(values).astype(np.float64)


def _numeric(values: Any) -> bool:
    if isinstance(values, torch.Tensor | np.ndarray | int | float):
        return True
    try:
        return isinstance(values, list | tuple) and np.issubdtype(np.asarray(values).dtype, np.number)
    except ValueError:  # nested lists of unequal lengths
        return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
