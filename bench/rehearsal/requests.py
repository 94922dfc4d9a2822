"""Both models served, one at a time: a cold start, a request, the same request again."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Final

from bench.file_cache import evict
from bench.rehearsal.install import Place
from bench.rehearsal.processes import told
from bench.rehearsal.serving import SIDE, Folders, Picture, RequestRefused, Server, serving
from bench.report import Report
from cli.weights.state import installed_in
from models.catalog import MODELS

_PATIENCE_S: Final = 900.0
_GB: Final = 1e9
_LOADED: Final = re.compile(r"\S+ loaded on .*")


@dataclass(frozen=True)
class Served:
    """What a model gave, and the most memory that its worker took; `anonymous` of it is not of files."""

    file: bytes
    anonymous: int


def serve_each(report: Report, place: Place, prefix: tuple[str, ...] = ()) -> dict[str, Served]:
    """Start `facelight serve` for each model alone; what those that could be served gave."""
    found = {}
    for slug in MODELS:
        log = place.log(f"serve-{slug}")
        evict(place.weights)
        with serving(Folders(place.data, place.weights), (slug,), log, prefix) as server:
            if not _start(report, place, server, slug):
                continue
            try:
                found[slug] = _repeat(report, server, slug)
            except RequestRefused as error:
                report.add(f"{slug}: answered", 0, "", goal="== 1", note=str(error))
    return found


def bytes_of_files(place: Place, slug: str) -> int:
    """Bytes of the installed files that a worker reads: of pulid-lightning's checkpoints, the default one."""
    roles = [weight for weight in installed_in(place.weights).weights if slug in weight.used_by]
    read = [weight for weight in roles if not re.search("checkpoint_(artistic|realistic)", weight.role)]
    return sum(file.size for weight in read for file in weight.files)


def _start(report: Report, place: Place, server: Server, slug: str) -> bool:
    state = server.settled((slug,), _PATIENCE_S)[slug]
    seconds, usage, size = time.monotonic() - server.began, server.worker, bytes_of_files(place, slug)
    loaded = _LOADED.search(server.watched.text())
    report.add(f"{slug}: cold start to ready", seconds if state.ready else None, "s", note=told(usage))
    report.add(f"{slug}: served", float(state.ready), "", goal="== 1", note=loaded[0] if loaded else state.detail)
    report.add(f"{slug}: read from the disk / bytes of the files", usage.read / size, "", note=f"{size:,} bytes")
    return state.ready


def _repeat(report: Report, server: Server, slug: str) -> Served:
    pictures: list[Picture] = []
    for which in ("first", "second"):
        pictures.append(server.request(slug))
        _tell_request(report, slug, which, pictures[-1])
    first, second = pictures
    report.add(f"{slug}: same bytes for the same seed", float(first.file == second.file), "", goal="== 1")
    right = first.size == (SIDE, SIDE) and first.levels > 3
    note = f"{first.media_type}, {first.size[0]} x {first.size[1]} px, {first.levels} levels, {len(first.file):,} bytes"
    report.add(f"{slug}: a picture of the right size, not of one colour", float(right), "", goal="== 1", note=note)
    report.add(f"{slug}: worker after its requests", server.worker.peak / _GB, "GB", note=told(server.worker))
    return Served(first.file, server.worker.anonymous)


def _tell_request(report: Report, slug: str, which: str, picture: Picture) -> None:
    report.add(f"{slug}: {which} request, {SIDE} px", picture.seconds, "s", note=f"{picture.cpu_s:.1f} CPU s")
