"""The steps of `bench/first_gpu.sh`, each a process of its own with a limit, and their results in one file.

Rows of a step are in the file as soon as the step has measured them, with the step's name in front, and one row tells
its exit status. Steps that ended well in an earlier call on the same day are not done again.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.report import Interrupted, Record, Report, Row, row

_BUDGET_S: Final = 840
_KILL_AFTER_S: Final = 15
"""A step that was told to end is killed so much later."""
_CUT_OFF: Final = (124, -9)
"""What `timeout` ends with if the step had to be told to end, or to be killed."""
_POLL_S: Final = 0.5
_SHORTEST_S: Final = 15
"""Steps are not begun with less time left."""
_OUTCOME: Final = re.compile(r"^(\S+::\S+) (PASSED|FAILED|ERROR|SKIPPED)", re.MULTILINE)
_TESTS: Final = "tests/models/runtime/test_on_gpu.py"
_MACHINE: Final = """
import json, sys, torch
if not torch.cuda.is_available():
    sys.exit(f"torch {torch.__version__} sees no GPU. `--device cpu --reduced` shows that the script works.")
gpu = torch.cuda.get_device_properties(sys.argv[1])
print(json.dumps({
    "name": gpu.name, "capability": float(f"{gpu.major}.{gpu.minor}"), "memory": gpu.total_memory / 2**30,
    "processors": gpu.multi_processor_count, "cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version()),
}))
"""
_DRIVER: Final = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Step:
    """One process: a name, the seconds of `_BUDGET_S` that it may take, and the arguments of Python."""

    name: str
    limit_s: int
    arguments: tuple[str, ...]

    @property
    def status(self) -> str:
        """The name of the row that tells the exit status."""
        return f"{self.name}: exit status"


def steps(device: str, reduced: bool, repeats: int) -> tuple[Step, ...]:
    """All of them; what takes minutes of compiling is last."""

    def measure(name: str, limit_s: int, section: str, compile_: str) -> Step:
        chosen = ("--only", section, "--compile", compile_, "--device", device, "--repeats", str(repeats))
        return Step(name, limit_s, ("-m", "bench.gpu", *chosen, *["--reduced"] * reduced, "--budget-s", "0"))

    # Nothing of the project's own options, which want plugins, and no conftest but the folder's.
    options = ("-o", "addopts=", "--import-mode=importlib", f"--confcutdir={Path(_TESTS).parent}")
    return (
        Step("tests", 180, ("-m", "pytest", *options, "-p", "no:cacheprovider", "-v", _TESTS)),
        measure("attention", 100, "attention", "off"),
        measure("pulid-lightning, captured", 180, "a", "off"),
        measure("ic-light, captured", 180, "b", "off"),
        measure("unseen sizes, captured", 100, "sizes", "off"),
        measure("stages, default sizes compiled", 300, "stages", "fixed"),
        measure("unseen sizes, all sizes compiled", 600, "sizes", "auto"),
        measure("pulid-lightning, all sizes compiled", 300, "a", "auto"),
        measure("ic-light, all sizes compiled", 300, "b", "auto"),
    )


class Run:
    """One call of the script."""

    def __init__(self, report: Report, work: Path, budget_s: float) -> None:
        """Put rows into `report`, logs and the steps' own results into `work`."""
        self._report, self._work, self._budget_s = report, work, budget_s
        self._end = time.monotonic() + budget_s

    def do(self, step: Step) -> bool:
        """Do a step, unless an earlier call has; returns whether there was time to begin it."""
        rows = self._report.record.rows
        if any(measured.name == step.status and measured.reached for measured in rows):
            return True
        left_s = self._end - time.monotonic() - _KILL_AFTER_S
        limit_s = int(min(step.limit_s * self._budget_s / _BUDGET_S, left_s))
        if left_s < _SHORTEST_S:
            return False
        rows[:] = [measured for measured in rows if not measured.name.startswith(f"{step.name}: ")]
        folder = self._work / re.sub(r"\W+", "-", step.name)
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.json"):
            old.unlink()
        out = ("--out", str(folder)) if "bench.gpu" in step.arguments else ()
        command = ["timeout", f"--kill-after={_KILL_AFTER_S}", str(limit_s), sys.executable, *step.arguments, *out]
        began, log = time.monotonic(), folder / "log.txt"
        with log.open("w") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603 - our own modules
            try:
                self._follow(process, step, folder)
            finally:
                process.terminate()  # the run was cut off: `timeout` hands it on
                process.wait()
                self._collect(step, folder)
        status = process.returncode
        for measured in _tests(log.read_text(errors="replace")) if not out else ():
            self._put(step, measured)
        known = f"python {shlex.join(step.arguments)}: {time.monotonic() - began:.0f} s"
        why = "" if not status else ", cut off" if status in _CUT_OFF else f": {_last_line(log)}"
        self._report.put(row(step.status, status, "", "== 0", known + why))
        return True

    def _follow(self, process: subprocess.Popen[bytes], step: Step, folder: Path) -> None:
        while process.poll() is None:
            time.sleep(_POLL_S)
            self._collect(step, folder)

    def _collect(self, step: Step, folder: Path) -> None:
        """Put what the step's own file has more than before into the report."""
        for path in folder.glob("*.json"):
            measured = Record.model_validate_json(path.read_text()).rows
            known = sum(it.name.startswith(f"{step.name}: ") for it in self._report.record.rows)
            for further in measured[known:]:
                self._put(step, further)

    def _put(self, step: Step, measured: Row) -> None:
        self._report.put(measured.model_copy(update={"name": f"{step.name}: {measured.name}"}))


def _tests(log: str) -> Iterator[Row]:
    """Outcomes of pytest's verbose log, which may be cut off."""
    outcomes = dict(_OUTCOME.findall(log))
    bad = [name.rpartition("::")[2] for name, outcome in outcomes.items() if outcome in ("FAILED", "ERROR")]
    counted = list(outcomes.values())
    yield row("passed", counted.count("PASSED"), "tests")
    yield row("failed", len(bad), "tests", "== 0", ", ".join(bad))
    yield row("skipped", counted.count("SKIPPED"), "tests")


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no output"


def main(argv: Sequence[str] | None = None) -> Path:
    """Do the steps that the arguments choose; the path of the result."""
    arguments = _parser().parse_args(argv)
    machine = _machine(arguments.device)
    versions: dict[str, str] = {name: machine[name] for name in ("cuda", "cudnn") if name in machine}
    if _DRIVER.is_file():
        versions["driver"] = _DRIVER.read_text().splitlines()[0]
    what = f"first-gpu{'-reduced' if arguments.reduced else ''}"
    report = Report(what, machine["name"], arguments.results, arguments.budget_s, versions)
    if report.path.is_file():
        report.record.rows = Record.model_validate_json(report.path.read_text()).rows
    with report:
        if not report.record.rows:
            for name, unit in (("capability", ""), ("memory", "GiB"), ("processors", "")):
                report.add(f"machine: {name}", machine.get(name), unit)
        run = Run(report, arguments.work, arguments.budget_s)
        done = [run.do(step) for step in steps(arguments.device, arguments.reduced, arguments.repeats)]
        unfinished = [it.name for it in report.record.rows if it.name.endswith("exit status") and not it.reached]
        if unfinished or not all(done):
            raise Interrupted  # leaves the record incomplete
    return report.path


def _machine(device: str) -> dict[str, Any]:
    """What the device is, asked by a process of its own: its memory is free again when the steps begin."""
    if device == "cpu":
        return {"name": "cpu"}
    command = [sys.executable, "-c", _MACHINE, device]
    asked = subprocess.run(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own program
    if asked.returncode:
        sys.exit(asked.returncode)  # it has said why
    found: dict[str, Any] = json.loads(asked.stdout.splitlines()[-1])
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench/first_gpu.sh", description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="folder of the result file")
    parser.add_argument("--work", type=Path, required=True, help="folder of logs and of the steps' own results")
    parser.add_argument("--device", default="cuda", help="where (%(default)s)")
    parser.add_argument("--reduced", action="store_true", help="narrow networks and small pictures")
    parser.add_argument("--repeats", type=int, default=20, help="how often each time is taken (%(default)s)")
    parser.add_argument("--budget-s", type=float, default=_BUDGET_S, help="seconds for all steps (%(default)s)")
    return parser


if __name__ == "__main__":
    main()
