"""Which weights an operator wants: what is installed, else the defaults, unless an option names others.

Every role is filled by one weight. The matting roles are one slot with several names: choosing one drops the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from models.errors import WeightsError
from models.weights.installed import InstalledWeight
from models.weights.lock import Lock, Weight

_ONE_OF: Final[Mapping[str, frozenset[str]]] = {
    "matting": frozenset({"rmbg", "matting_onnx_birefnet", "matting_onnx_isnet"})
}


@dataclass(frozen=True)
class SelectionOptions:
    """What the operator asked for.

    `only`: slug of a model, or None for all. `use`: names of weights. `commercial`: nothing but what may be used
    commercially, except for what `use` names.
    """

    only: str | None = None
    use: Collection[str] = ()
    commercial: bool = False


@dataclass(frozen=True)
class Selection:
    """The chosen weights, in the lock's order, and the slots that `commercial` leaves empty, by candidates."""

    weights: list[Weight]
    unfilled: Mapping[str, list[Weight]] = field(default_factory=dict)


def slot_of(role: str) -> str:
    """The slot that a role fills: its own name, or that of the roles that exclude each other."""
    return next((slot for slot, roles in _ONE_OF.items() if role in roles), role)


def select(lock: Lock, installed: Iterable[InstalledWeight], options: SelectionOptions) -> Selection:
    """Choose one weight for every slot; raises `WeightsError` for names that cannot be chosen."""
    named = _named(lock, options)
    kept = {weight.name for weight in installed}
    chosen: list[Weight] = []
    unfilled: dict[str, list[Weight]] = {}
    for slot, candidates in slots(lock, options.only).items():
        if weight := named.get(slot) or _choose(candidates, kept, options.commercial):
            chosen.append(weight)
        elif _is_wanted(candidates):
            unfilled[slot] = candidates
    return Selection(chosen, unfilled)


def slots(lock: Lock, only: str | None) -> dict[str, list[Weight]]:
    """Every slot with all weights that could fill it, for one model or for all."""
    found: dict[str, list[Weight]] = {}
    for weight in lock.weights:
        if only is None or only in weight.used_by:
            found.setdefault(slot_of(weight.role), []).append(weight)
    return found


def _named(lock: Lock, options: SelectionOptions) -> dict[str, Weight]:
    named: dict[str, Weight] = {}
    for weight in map(lock.named, options.use):
        if other := named.get(slot_of(weight.role)):
            raise WeightsError(f"{other.name} and {weight.name} exclude each other: both are {slot_of(weight.role)}.")
        if options.only is not None and options.only not in weight.used_by:
            raise WeightsError(f"{weight.name} is not used by {options.only} but by {', '.join(weight.used_by)}.")
        named[slot_of(weight.role)] = weight
    return named


def _choose(candidates: list[Weight], kept: Collection[str], commercial: bool) -> Weight | None:
    allowed = [weight for weight in candidates if weight.commercial is True or not commercial]
    for wanted in (lambda weight: weight.name in kept, lambda weight: weight.default):
        if weight := next(filter(wanted, allowed), None):
            return weight
    return next(iter(allowed), None) if _is_wanted(candidates) else None


def _is_wanted(candidates: list[Weight]) -> bool:
    """Whether the slot is filled without being asked for; one without a default is not."""
    return any(weight.default for weight in candidates)
