"""Loading large weight files, ours beside plain diffusers' of the same files: `python -m bench.start_up`.

Random files of the published sizes, 11 GB, are written into a folder and deleted in the end. Every load is a process of
its own; both ways take turns, with the files out of the file cache (cold) and in it (warm). Ours serves bfloat16 on a
CPU, diffusers float16, the type of the files. "Ready" is when every page was touched once, as the first request does.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.file_cache import evict
from bench.report import RESULTS, Report, Row, row

_FOLDER: Final = Path("var/start-up")
_WAYS: Final = ("ours", "diffusers")
_MODELS: Final = ("sdxl", "ic-light")
_LIBRARIES: Final = 1e9
"""Bytes that the libraries take, by which a peak is reduced before it is compared with the weights."""
_TIMEOUT_S: Final = 900
Measured = dict[str, float]


def main() -> None:
    """Measure, and leave a report; in a child process load one model and print what it took."""
    parser = argparse.ArgumentParser(prog="python -m bench.start_up", description=__doc__)
    parser.add_argument("--reduced", action="store_true", help="narrow networks: whether it runs, in seconds")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each way (%(default)s)")
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="where the files are written (%(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    parser.add_argument("--budget-s", type=float, default=3000, help="seconds after which the run ends (%(default)s)")
    parser.add_argument("--load", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        way, model = arguments.load
        sys.stdout.write(json.dumps(_load(way, model, arguments.folder)) + "\n")
        return
    what = "start-up-reduced" if arguments.reduced else "start-up"
    try:
        with Report(what, folder=arguments.out, budget_s=arguments.budget_s) as report:
            _write_files(arguments.folder, arguments.reduced)
            for model in _MODELS:
                for measured in _against_diffusers(model, arguments.folder, arguments.rounds):
                    report.put(measured)
            for measured in (*_with_hashes(arguments.folder), _offloaded(arguments.folder)):
                report.put(measured)
    finally:
        shutil.rmtree(arguments.folder, ignore_errors=True)


def _write_files(folder: Path, reduced: bool) -> None:
    from bench.full_size.files import write_offset, write_sd15, write_sdxl
    from models.weights.installed import describe, write_installed

    write_sdxl(folder / "sdxl.safetensors", folder / "config", reduced)
    # What `ours-hashed` verifies.
    write_installed(folder, [describe(folder, "checkpoint", "sdxl.safetensors", ["it"], "none")], "real")
    write_sd15(folder / "sd15", reduced)
    write_offset(folder / "offset.safetensors", reduced)


def _against_diffusers(model: str, folder: Path, rounds: int) -> Iterator[Row]:
    for cache in ("cold", "warm"):
        taken: dict[str, list[Measured]] = {way: [] for way in _WAYS}
        for _ in range(rounds):
            for way in _WAYS:
                _set_cache(folder, model, warm=cache == "warm")
                taken[way].append(_measure(way, model, folder))
        for value, unit in (("wall_s", "s"), ("cpu_s", "s"), ("peak", "bytes")):
            ours, theirs = (median(it[value] for it in taken[way]) for way in _WAYS)
            yield row(f"{model}, {cache}: {value}, ours", ours, unit)
            yield row(f"{model}, {cache}: {value}, diffusers", theirs, unit)
            yield row(f"{model}, {cache}: {value}, ours / diffusers", ours / theirs, "", "<= 1.0")
        last = taken["ours"][-1]
        beyond = (last["peak"] - _LIBRARIES) / last["bytes"]
        yield row(f"{model}, {cache}: (peak - 1 GB) / bytes served", beyond, "", "<= 1.05")
        yield row(f"{model}, {cache}: imports, CPU", last["imports_cpu_s"], "s")


def _with_hashes(folder: Path) -> Iterator[Row]:
    """From the start of the process to loaded weights, with all hashes unknown and the files out of the cache."""
    files = _files(folder, "sdxl")
    _set_cache(folder, "sdxl", warm=False)
    began = time.monotonic()
    _set_cache(folder, "sdxl", warm=True)
    read_s = time.monotonic() - began
    _set_cache(folder, "sdxl", warm=False)
    it = _measure("ours-hashed", "sdxl", folder)
    yield row("sdxl, cold, hashes unknown: start to loaded", it["imports_s"] + it["wall_s"], "s")
    yield row("sdxl: reading the file once, cold", read_s, "s")
    started = (it["imports_s"] + it["wall_s"]) / (read_s + it["imports_s"])
    yield row("sdxl, cold, hashes unknown: start / (reading + imports)", started, "", "<= 1.3")
    size = sum(path.stat().st_size for path in files)
    yield row("sdxl, cold, hashes unknown: bytes read / bytes of the file", it["read"] / size, "", "<= 1.05")


def _offloaded(folder: Path) -> Row:
    it = _measure("ours-offloaded", "sdxl", folder)
    name = "a further checkpoint in host memory: anonymous memory / its UNet's bytes"
    return row(name, it["anonymous"] / it["bytes"], "", "<= 1.05")


def _measure(way: str, model: str, folder: Path) -> Measured:
    command = (sys.executable, "-m", "bench.start_up", "--folder", str(folder), "--load", way, model)
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603 - ours
    if done.returncode:
        raise RuntimeError(done.stderr)
    measured: Measured = json.loads(done.stdout.splitlines()[-1])
    return measured


def _files(folder: Path, model: str) -> list[Path]:
    if model == "sdxl":
        return [folder / "sdxl.safetensors"]
    return [folder / "offset.safetensors", *(folder / "sd15").rglob("*.safetensors")]


def _set_cache(folder: Path, model: str, *, warm: bool) -> None:
    """Read the files of a model, or put them out of the file cache."""
    files = _files(folder, model)
    if not warm:
        evict(*files)
        return
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 22):
                pass


def _load(way: str, model: str, folder: Path) -> Measured:
    """Load in this process."""
    os.environ.update(HF_HUB_OFFLINE="1", OMP_WAIT_POLICY="passive")
    began = time.monotonic()
    from bench import start_up_loads  # with all libraries

    load: Callable[[Path], list[Any]] = getattr(start_up_loads, f"{way}_{model}".replace("-", "_"))
    imports_s, imports_cpu_s = time.monotonic() - began, time.process_time()
    before, began = _status(), time.monotonic()
    kept = load(folder)
    sizes = {it.data_ptr(): it.nbytes for it in kept}
    for tensor in kept:
        tensor.flatten()[:: 4096 // tensor.itemsize].sum()
    after = _status()
    return {
        "imports_s": imports_s,
        "imports_cpu_s": imports_cpu_s,
        "wall_s": time.monotonic() - began,
        "cpu_s": time.process_time() - imports_cpu_s,
        "bytes": sum(sizes.values()),
        "peak": after["VmHWM"],
        "anonymous": after["RssAnon"] - before["RssAnon"],
        "read": after["read_bytes"] - before["read_bytes"],
    }


def _status() -> dict[str, int]:
    """Bytes of memory, and bytes read from disks, of this process."""
    memory, disk = Path("/proc/self/status").read_text(), Path("/proc/self/io").read_text()
    lines = dict(line.split(":", 1) for line in (memory + disk).splitlines())
    kilobytes = {name: 1024 * int(lines[name].split()[0]) for name in ("VmHWM", "RssAnon")}
    return {**kilobytes, "read_bytes": int(lines["read_bytes"])}


if __name__ == "__main__":
    main()
