"""What an operator is told where a model cannot be served, and whether the other one is."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.rehearsal.install import Place
from bench.rehearsal.processes import kind_of_limit, memory_limit
from bench.rehearsal.requests import Served
from bench.rehearsal.serving import Folders, Server, serving
from bench.report import Report
from cli.weights.state import installed_in

_PORTRAITS: Final = "pulid-lightning"
_RELIGHT: Final = "ic-light"
_BOTH: Final = (_PORTRAITS, _RELIGHT)
_DEFAULT: Final = "sdxl_checkpoint_default"
_SECOND: Final = "sdxl_checkpoint_realistic"
_PATIENCE_S: Final = 900.0
_GB: Final = 1e9
_CUT: Final = 1_000_000
"""Bytes that a truncated file lacks."""
_LIBRARIES: Final = 900_000_000
"""Anonymous memory of a worker without weights: two models in one process have it once."""
_WARNING: Final = re.compile(r"^.*\b(?:WARNING|ERROR|CRITICAL)\b.*$", re.MULTILINE)
_LONGEST: Final = 900


def too_little_memory(report: Report, place: Place, served: Mapping[str, Served]) -> None:
    """Half of what pulid-lightning needs beside ic-light."""
    needed = _needed(report, served, "too little memory")
    if needed is None:
        return
    light, portraits = needed
    limit = light + (portraits - _LIBRARIES) // 2
    with memory_limit(limit) as prefix:
        _refused(report, place, f"limit of {limit / _GB:.1f} GB", served, prefix)


def one_checkpoint_too_many(report: Report, place: Place, served: Mapping[str, Served]) -> None:
    """A limit under which both models are served with one checkpoint, and then two checkpoints."""
    second = next((weight for weight in installed_in(place.weights).weights if weight.role == _SECOND), None)
    needed = _needed(report, served, "one checkpoint too many")
    if second is None or needed is None:
        return
    # A third of its file: its UNet alone is three quarters, in half precision as in the file or in single precision.
    limit = sum(needed) - _LIBRARIES + sum(file.size for file in second.files) // 3
    if limit > _available():
        note = f"not run: {limit / _GB:.1f} GB are more than this host has"
        report.add("one checkpoint too many", None, "", note=note)
        return
    name = f"limit of {limit / _GB:.1f} GB"
    with memory_limit(limit) as prefix, _served(place, f"{name}, one checkpoint", prefix) as server:
        states = server.settled(_BOTH, _PATIENCE_S)
        ready = sum(states[slug].ready for slug in _BOTH)
        words = place.without_root(_words(server, _PORTRAITS))
        report.add(f"{name}, one checkpoint: models served", ready, "", goal="== 2", note=words)
    with memory_limit(limit) as prefix:
        _refused(report, place, f"{name}, two checkpoints", served, prefix, "default,realistic")


def one_truncated_file(report: Report, place: Place, served: Mapping[str, Served]) -> None:
    """The default checkpoint's file without its last megabyte; it is whole again afterwards."""
    (weight,) = (weight for weight in installed_in(place.weights).weights if weight.role == _DEFAULT)
    with _truncated(place.weights / weight.files[0].path):
        _refused(report, place, "a truncated checkpoint", served)


def _needed(report: Report, served: Mapping[str, Served], name: str) -> tuple[int, int] | None:
    """Anonymous memory that ic-light and pulid-lightning take; None, and a row, if a limit would prove nothing."""
    if served.keys() != set(_BOTH):
        report.add(name, None, "", note="not run: not both models could be served without a limit")
        return None
    needed = served[_RELIGHT].anonymous, served[_PORTRAITS].anonymous
    if min(needed) < 2 * _LIBRARIES:
        report.add(name, None, "", note="not run: narrow networks need no more than the libraries")
        return None
    report.add(f"{name}: memory is limited by", None, "", note=kind_of_limit())
    return needed


def _refused(
    report: Report,
    place: Place,
    name: str,
    served: Mapping[str, Served],
    prefix: tuple[str, ...] = (),
    checkpoints: str = "default",
) -> None:
    """Start both models; pulid-lightning must be refused in words, and ic-light serve its usual picture."""
    with _served(place, name, prefix, checkpoints) as server:
        states = server.settled(_BOTH, _PATIENCE_S)
        seconds, words = time.monotonic() - server.began, place.without_root(_words(server, _PORTRAITS))
        report.add(f"{name}: until it is told", seconds, "s", note=f"{server.worker.cpu_s:.1f} CPU s of the worker")
        told = not states[_PORTRAITS].ready and len(server.workers) == 1
        report.add(f"{name}: {_PORTRAITS} refused", float(told), "", goal="== 1", note=words)
        lines = _warnings(server)
        report.add(f"{name}: the log", len(lines), "lines", note=place.without_root(" // ".join(lines))[:_LONGEST])
        report.add(f"{name}: workers that ended", len(server.workers) - 1, "", goal="== 0")
        same, note = False, place.without_root(states[_RELIGHT].detail)
        if states[_RELIGHT].ready and _RELIGHT in served:
            same = server.request(_RELIGHT).file == served[_RELIGHT].file
            note = "the same bytes as alone" if same else "other bytes than alone"
        report.add(f"{name}: {_RELIGHT} serves", float(same), "", goal="== 1", note=note)


@contextmanager
def _served(place: Place, name: str, prefix: tuple[str, ...], checkpoints: str = "default") -> Iterator[Server]:
    log = place.log(re.sub(r"\W+", "-", f"serve {name}"))
    with serving(Folders(place.data, place.weights), _BOTH, log, prefix, checkpoints) as server:
        yield server


def _words(server: Server, slug: str) -> str:
    """What `/health/ready` says of a model."""
    states = server.states()
    return f"/health/ready: {states[slug].detail}" if slug in states else "/health/ready does not answer"


def _warnings(server: Server) -> list[str]:
    """The log's lines from warnings up, without time and level twice."""
    return list(dict.fromkeys(line.strip() for line in _WARNING.findall(server.watched.text())))


@contextmanager
def _truncated(path: Path) -> Iterator[None]:
    """Take the last bytes off a file while the block lasts."""
    times, size = path.stat(), path.stat().st_size
    with path.open("rb") as file:
        file.seek(size - _CUT)
        tail = file.read()
    os.truncate(path, size - _CUT)
    try:
        yield
    finally:
        with path.open("ab") as file:
            file.write(tail)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _available() -> int:
    """Free bytes of this machine's memory, with what the kernel can take back."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
