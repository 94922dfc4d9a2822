"""Weights of a lock: written, installed by `facelight weights fetch` from a mirror, compared, verified."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import tomli_w
from pydantic import TypeAdapter

from bench.file_cache import evict
from bench.full_size.stored import read_header
from bench.rehearsal.processes import FACELIGHT, run, told
from bench.rehearsal.published import Publisher, objects_size, unpublish
from bench.report import Report, Row
from cli.weights.state import by_name, installed_in
from models.weights.lock import Lock, Weight, read_lock

_ROWS: Final = TypeAdapter(list[Row])
_EARLIER: Final = "; by an earlier run"
_SPARE: Final = 1 << 30
_FREE: Final = "pickles, and graphs with names of their own"


@dataclass(frozen=True)
class Place:
    """Folders of a rehearsal, below one of its own."""

    root: Path

    @property
    def mirror(self) -> Path:
        """What is published, one weight at a time."""
        return self.root / "mirror"

    @property
    def weights(self) -> Path:
        """What is served."""
        return self.root / "weights"

    @property
    def further(self) -> Path:
        """Weights that are installed and not served, one at a time."""
        return self.root / "further"

    @property
    def data(self) -> Path:
        """The server's data folder."""
        return self.root / "data"

    @property
    def lock(self) -> Path:
        """The lock that names what was written."""
        return self.root / "rehearsal.lock"

    def without_root(self, text: str) -> str:
        """The text with paths relative to the rehearsal's folder."""
        return text.replace(f"{self.root}/", "")

    @property
    def rows(self) -> Path:
        """What the report says of the installed weights, for a run that goes on from them."""
        return self.root / "rows.json"

    def log(self, name: str) -> Path:
        """Where a command's output goes."""
        return self.root / f"{name}.log"


def needed_bytes(served: Sequence[Weight], further: Sequence[Weight], publisher: Publisher) -> int:
    """Bytes on the disk at the worst moment: all that is served and one weight's objects, or one weight twice."""
    sizes = [publisher.size_of(weight) for weight in served]
    return max([sum(sizes) + max(sizes), *(2 * publisher.size_of(weight) for weight in further)]) + _SPARE


def missing_bytes(root: Path, needed: int) -> int:
    """How many of `needed` bytes the disk of `root` lacks, what is there already counted as free; 0 if they fit."""
    present = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    return max(needed - present - shutil.disk_usage(root).free, 0)


def install(report: Report, place: Place, publisher: Publisher, weights: Sequence[Weight], at_once: bool) -> None:
    """Write and install weights: each leaves the mirror before the next comes, or all `at_once`.

    What an earlier run has left installed stays as it is, and its rows are told again.
    """
    written = list(read_lock(place.lock).weights) if place.lock.exists() else []
    present = by_name(installed_in(place.weights)).keys() & {weight.name for weight in written}
    rows = _ROWS.validate_json(place.rows.read_bytes()) if place.rows.exists() else []
    for row in rows:
        report.put(row.model_copy(update={"note": f"{row.note}{_EARLIER}"}))
    missing = [weight for weight in weights if weight.name not in present]
    for batch in [missing] if at_once and missing else [[weight] for weight in missing]:
        begin = len(report.record.rows)
        written += [_publish(report, place, publisher, weight) for weight in batch]
        _fetch(report, place, written, place.weights, place.lock)
        for weight in batch:
            _compare(report, place.weights, publisher, weight)
            unpublish(place.mirror, weight)
        rows += report.record.rows[begin:]
        place.rows.write_bytes(_ROWS.dump_json(rows))


def install_further(report: Report, place: Place, publisher: Publisher, weights: Iterable[Weight]) -> None:
    """Write and install weights that are not served, each in a folder of its own that is deleted then."""
    for weight in weights:
        written = _publish(report, place, publisher, weight)
        _fetch(report, place, [written], place.further, place.root / "further.lock")
        _compare(report, place.further, publisher, weight)
        unpublish(place.mirror, weight)
        shutil.rmtree(place.further)


def verify(report: Report, place: Place) -> None:
    """Read everything again, from the disk, by `facelight weights verify`."""
    evict(place.weights)
    seconds, usage = run([FACELIGHT, "weights", "verify"], place.log("verify"), _settings(place, place.weights))
    last = place.log("verify").read_text().strip().splitlines()[-1]
    report.add("verify all installed files", seconds, "s", note=f"{told(usage)}; {place.without_root(last)}")


def _publish(report: Report, place: Place, publisher: Publisher, weight: Weight) -> Weight:
    began, cpu_s = time.monotonic(), time.process_time()
    written = publisher.publish(weight)
    seconds, size = time.monotonic() - began, objects_size(place.mirror, written)
    note = f"{time.process_time() - cpu_s:.1f} CPU s, hashing included; {size:,} bytes"
    report.add(f"{weight.name}: write", seconds, "s", note=note)
    pairs = list(zip(weight.files, written.files, strict=False))
    # Some weights have no published size.
    if publisher.fills and all(file.size for file in weight.files):
        exact = [(ours.size or 0) - (file.size or 0) for file, ours in pairs if not publisher.has_free_size(file)]
        free = [(ours.size or 0) - (file.size or 0) for file, ours in pairs if publisher.has_free_size(file)]
        if exact:
            report.add(f"{weight.name}: bytes beside the published size", sum(map(abs, exact)), "B", goal="== 0")
        if free:
            report.add(f"{weight.name}: bytes beside the published size, of its form", sum(free), "B", note=_FREE)
    return written


def _fetch(report: Report, place: Place, written: Sequence[Weight], folder: Path, path: Path) -> None:
    lock = Lock(weights=[weight.model_copy(update={"default": True}) for weight in written])
    path.write_text(tomli_w.dumps(lock.model_dump(exclude_none=True)))
    command = [FACELIGHT, "weights", "fetch", "--mirror", str(place.mirror), "--lock", str(path), "--accept-licence"]
    name = written[-1].name
    seconds, usage = run(command, place.log("fetch"), _settings(place, folder))
    report.add(f"{name}: install", seconds, "s", note=told(usage))


def _compare(report: Report, folder: Path, publisher: Publisher, weight: Weight) -> None:
    """Whether the installed files hold exactly the tensors that were to be written, and are as large as recorded."""
    recorded = {file.path: file.size for file in by_name(installed_in(folder))[weight.name].files}
    faults = [path for path, size in recorded.items() if (folder / path).stat().st_size != size]
    tensors = 0
    for file in weight.files:
        content = publisher.content_of(file)
        if content is not None:
            found = read_header(folder / file.path)
            faults += [
                key for key in content.tensors.keys() | found.keys() if content.tensors.get(key) != found.get(key)
            ]
            tensors += len(found)
    report.add(
        f"{weight.name}: wrong sizes, names, shapes, types", len(faults), "", goal="== 0", note=f"{tensors:,} tensors"
    )


def _settings(place: Place, weights: Path) -> dict[str, str]:
    return {
        "FACELIGHT_DATA_DIR": str(place.data),
        "FACELIGHT_WEIGHTS_DIR": str(weights),
        "FACELIGHT_OFFLINE": "true",
    }
