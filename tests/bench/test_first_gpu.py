"""`bench/first_gpu.sh` with narrow networks on the processor, and with no packages but those it lists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

from bench.device.first_gpu import steps
from bench.report import Record

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "bench" / "first_gpu.sh"
PINNED = re.compile(r"^([\w.-]+)==([^\s;]+)(?: ; (.*?))?(?: \\)?$", re.MULTILINE)
STEPS = steps("cpu", True, 1)
BUDGET_S = 5400
"""Of the whole script on two busy cores."""


def listed() -> dict[str, str]:
    """The packages of the list, by normalised name, with their versions."""
    return {
        name: version for name, version, _ in PINNED.findall((REPOSITORY / "bench/first_gpu_wheels.txt").read_text())
    }


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def brought_by(*names: str) -> set[str]:
    """These packages and what they require, all the way down."""
    found: set[str] = set()
    left = [normalised(name) for name in names]
    while left:
        if (name := left.pop()) not in found:
            found.add(name)
            try:
                required = metadata.requires(name) or []
            except metadata.PackageNotFoundError:
                continue
            left += [normalised(re.split(r"[^\w.-]", it)[0]) for it in required if "extra ==" not in it]
    return found


@pytest.fixture
def nothing_else(tmp_path: Path) -> Path:
    """A folder whose `sitecustomize` lets nothing be imported but what is listed and what torch brings along."""
    there = {*listed(), *(brought_by("torch", "torchvision") - {"numpy", "pillow"}), "facelight", "pip"}
    hidden = {
        module
        for module, packages in metadata.packages_distributions().items()
        if not there & {normalised(package) for package in packages}
    }
    assert {"xdist", "hypothesis", "fastapi"} <= hidden
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "from importlib.machinery import PathFinder\n"
        "class Listed(PathFinder):\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, path=None, target=None):\n"
        f"        if path is None and name in {sorted(hidden)!r}:\n"
        "            return None\n"
        "        return PathFinder.find_spec(name, path, target)\n"
        "sys.meta_path[sys.meta_path.index(PathFinder)] = Listed\n"
    )
    return folder


def script(out: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {**os.environ, "OUT": str(out), "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run([SCRIPT, *arguments], env=known, capture_output=True, text=True)


def result(out: Path) -> Record:
    """The one result file, which is valid at any time."""
    (path,) = out.glob("first-gpu-reduced-cpu-*.json")
    return Record.model_validate_json(path.read_text())


def test_the_list_has_the_versions_of_the_lock() -> None:
    lock = (REPOSITORY / "requirements.lock").read_text()
    on_python_3_12 = {
        normalised(name): version for name, version, when in PINNED.findall(lock) if "< '3.12'" not in when
    }
    assert len(listed()) > 40
    assert {name: on_python_3_12.get(name) for name in listed()} == listed()
    assert not {"torch", "triton", "torchvision"} & listed().keys(), "these are the GPU host's own"


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    done = script(tmp_path)
    assert done.returncode != 0
    assert "sees no GPU" in done.stderr
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.slow
@pytest.mark.timeout(2 * BUDGET_S)
def test_all_steps_are_done_with_the_listed_packages_alone(tmp_path: Path, nothing_else: Path) -> None:
    arguments = ("--device", "cpu", "--reduced", "--repeats", "1", "--budget-s", str(BUDGET_S))
    environment = {"PYTHONPATH": str(nothing_else), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = script(tmp_path, *arguments, **environment)
    assert done.returncode == 0, done.stderr
    record = result(tmp_path)
    statuses = {row.name: (row.value, row.note) for row in record.rows if row.name.endswith("exit status")}
    assert list(statuses) == [step.status for step in STEPS]
    assert {name: note for name, (value, note) in statuses.items() if value} == {}
    assert record.complete
    assert record.command[:3] == ["python", "-m", "bench.device.first_gpu"]
    values = {row.name: row.value for row in record.rows}
    assert values["tests: passed"] + values["tests: skipped"] > 10
    assert values["pulid-lightning, captured: pulid-lightning: request, ours"] > 0
    assert values["unseen sizes, captured: ic-light: first request of an unseen size / second"] > 0
    assert any(name.startswith("attention: ic-light: attention 2x") for name in values)
    # Once more: everything is done.
    again = script(tmp_path, *arguments, **environment)
    assert again.returncode == 0
    assert result(tmp_path).rows == record.rows


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_that_is_cut_off_leaves_what_it_has_and_another_goes_on(tmp_path: Path) -> None:
    """The first ends within the attention's step or soon after; the second does that step again, and not the tests."""
    script(tmp_path, "--device", "cpu", "--reduced", "--repeats", "1", "--budget-s", "60")
    first = result(tmp_path)
    assert not first.complete
    assert first.finished is not None
    assert first.rows
    script(tmp_path, "--device", "cpu", "--reduced", "--repeats", "1", "--budget-s", "200")
    second = result(tmp_path)
    assert len(second.rows) > len(first.rows)
    names = [row.name for row in second.rows]
    assert len(names) == len(set(names))
