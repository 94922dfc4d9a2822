"""The committed counts of all graphs, `counts.json`, and how new ones compare with them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal, get_args

from pydantic import BaseModel, ConfigDict

COUNTS: Final = Path(__file__).with_name("counts.json")
TOLERANCE: Final = 0.05
"""Part by which a count may differ from the committed one."""
_WRITE: Final = "if that is meant, `python -m tests.lowering --write` writes the table anew"
Model = Literal["pulid-lightning", "ic-light"]
Network = Literal["full", "reduced"]
"""The published sizes; or narrow, and with few layers."""
MODELS: Final[tuple[Model, ...]] = get_args(Model)
NETWORKS: Final[tuple[Network, ...]] = get_args(Network)
Key = tuple[str, str, str, str, str, str]


class Count(BaseModel):
    """What an evaluation of one graph costs on one target.

    `sizes`: shapes of the first tensor of each input. `kernels`: Triton kernels of the graph. `launches`: of those and
    of libraries, per evaluation. `attention`: calls by kernel and width of a head. `peak_mib`: memory of intermediate
    tensors alive at once, in MiB.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: Network
    target: str
    model: Model
    function: str
    graph: Literal["dynamic", "static"]
    sizes: str
    kernels: int
    launches: int
    attention: dict[str, int]
    peak_mib: float

    @property
    def key(self) -> Key:
        """What tells rows apart."""
        return self.network, self.model, self.function, self.graph, self.sizes, self.target


class Counts(BaseModel):
    """All rows, and the version of torch that they hold for."""

    model_config = ConfigDict(extra="forbid")

    torch: str
    rows: list[Count] = []


def read_counts(path: Path = COUNTS) -> Counts:
    """The committed counts."""
    return Counts.model_validate_json(path.read_text())


def write_counts(counts: Counts, path: Path = COUNTS) -> None:
    """Write them with one line a row, in order."""
    rows = sorted(counts.rows, key=lambda row: row.key)
    lines = ",\n".join(f"    {json.dumps(row.model_dump())}" for row in rows)
    path.write_text(f'{{\n  "torch": {json.dumps(counts.torch)},\n  "rows": [\n{lines}\n  ]\n}}\n')


def merged(old: Iterable[Count], new: Iterable[Count]) -> list[Count]:
    """The old rows with all of the new ones' networks, targets, models and functions replaced by those."""
    new = list(new)
    replaced = {_group(row) for row in new}
    return [*(row for row in old if _group(row) not in replaced), *new]


def differences(measured: Sequence[Count], committed: Iterable[Count]) -> list[str]:
    """What differs by more than `TOLERANCE` from the committed rows, in words; empty if nothing does."""
    found = {row.key: row for row in measured}
    groups = {_group(row) for row in measured}
    expected = {row.key: row for row in committed if _group(row) in groups}
    words = [f"{_name(row)}: is not in the table; {_WRITE}" for key, row in found.items() if key not in expected]
    words += [f"{_name(row)}: is not measured any more; {_WRITE}" for key, row in expected.items() if key not in found]
    for key in sorted(found.keys() & expected.keys()):
        words += [f"{_name(found[key])}: {difference}; {_WRITE}" for difference in _changes(expected[key], found[key])]
    return words


def combinations(rows: Iterable[Count]) -> dict[tuple[Network, str, Model], list[str]]:
    """The warm-up calls that rows are of, such as `predict_noise:capture`, by network, target and model."""
    calls: dict[tuple[Network, str, Model], set[str]] = {}
    for row in rows:
        kinds = ("capture",) if row.graph == "static" else ("compile", "call")
        found = calls.setdefault((row.network, row.target, row.model), set())
        found.update(f"{row.function}:{kind}" for kind in kinds)
    return {combination: sorted(names) for combination, names in sorted(calls.items())}


def _changes(old: Count, new: Count) -> Iterable[str]:
    for what in ("kernels", "launches", "peak_mib"):
        before, after = getattr(old, what), getattr(new, what)
        if abs(after - before) > TOLERANCE * before:
            yield f"{what} {'rose' if after > before else 'fell'} from {before:g} to {after:g}"
    if old.attention != new.attention:
        yield f"attention was {old.attention} and is {new.attention}"


def _group(row: Count) -> tuple[str, ...]:
    return row.network, row.target, row.model, row.function, row.graph


def _name(row: Count) -> str:
    return f"{row.model} ({row.network}) {row.function}, {row.graph}, {row.sizes}, on {row.target}"
