"""The IC-Light set of the repository, through the project's own modules, and subsets of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.parity.discover import run
from tests.parity.iclight import checks
from tests.parity.iclight.case import Case
from tests.parity.iclight.golden_set import KEPT, GoldenSet
from tests.parity.report import Row

CPU = torch.device("cpu")
CASE = "fc_d_top_long"
ENDINGS = (".json", ".safetensors", "_out0.png")
QueueKey = Callable[..., Path]


@pytest.fixture
def place(tmp_path: Path) -> QueueKey:
    """Copy these files of the kept set into a set of its own, whose folder is returned."""

    def copy(*names: str) -> Path:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(KEPT / name, tmp_path / name)
        return tmp_path

    return copy


def failures(folder: Path) -> dict[str, str]:
    """The notes of the failed rows by name."""
    return {row.name: row.note for row in run(folder, CPU) if not row.passed}


@pytest.mark.parametrize("index", range(len(list(checks(KEPT, CPU)))))
def test_it_is_as_the_original(index: int):
    name, check = list(checks(KEPT, CPU))[index]
    rows: list[Row] = list(check())
    assert rows, name
    assert not [row for row in rows if not row.passed]


def test_every_file_of_the_set_is_checked():
    names = [name for name, _ in checks(KEPT, CPU)]
    assert "weights" in names
    assert names.count(f"cases/{CASE}") == 2
    assert {f"unit/{file.name}" for file in (KEPT / "unit").iterdir()} <= set(names)


def test_a_set_without_weights_and_picture_takes_those_of_the_repository(place: QueueKey):
    rows = list(run(place("unit/tokens.json", "unit/image_ops.safetensors"), CPU))
    assert len(rows) > 20
    assert all(row.passed for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("missing", ENDINGS)
def test_a_case_that_lacks_a_file_fails(place: QueueKey, missing: str):
    folder = place(*(f"cases/{CASE}{ending}" for ending in ENDINGS if ending != missing))
    assert any("FileNotFoundError" in note for note in failures(folder).values())


def test_a_torn_file_fails(place: QueueKey):
    folder = place("unit/tokens.json", "unit/image_ops.safetensors")
    for file in (folder / "unit").iterdir():
        file.write_bytes(file.read_bytes()[:200])
    assert set(failures(folder)) == {"unit/tokens.json", "unit/image_ops.safetensors"}


def test_a_tensor_of_an_unknown_name_fails(place: QueueKey):
    file = place("unit/image_ops.safetensors") / "unit" / "image_ops.safetensors"
    save_file({**load_file(file), "another_operation": torch.zeros(2)}, file)
    shutil.copy(file, file.with_name("more_ops.safetensors"))
    failed = set(failures(file.parents[1]))
    assert failed == {"unit/image_ops.safetensors: another_operation", "unit/more_ops.safetensors"}


@pytest.mark.parametrize("file", ["unit/integer_tables.json", "unit/scheduler_tables.json", "unit/tokens.json"])
def test_other_numbers_fail(place: QueueKey, file: str):
    path = place(file) / file
    path.write_text(path.read_text().replace("344", "345").replace("236", "237").replace("999", "998"))
    assert failures(path.parents[1])


@pytest.mark.parametrize(
    ("source", "corners"),
    [
        ("Use Background Image", [[0, 1, 2], [9, 10, 11]]),
        ("Use Flipped Background Image", [[9, 10, 11], [0, 1, 2]]),
        ("Ambient", [[64] * 3, [64] * 3]),
        ("Right Light", [[32] * 3, [224] * 3]),
    ],
)
def test_the_background_of_a_case_is_what_its_source_says(place: QueueKey, source: str, corners: list[list[int]]):
    folder = place(f"cases/{CASE}.json", f"cases/{CASE}.safetensors")
    facts = json.loads((folder / f"cases/{CASE}.json").read_text())
    (folder / f"cases/{CASE}.json").write_text(json.dumps({**facts, "args": {**facts["args"], "bg_source": source}}))
    tensors = {
        "input_bg_u8": torch.arange(12, dtype=torch.uint8).reshape(1, 4, 3),
        "p1.concat_conds": torch.zeros(1, 8, 1, 1),
    }
    save_file(tensors, folder / f"cases/{CASE}.safetensors")
    assert Case(GoldenSet(folder, CPU), CASE).background[0, [0, -1]].tolist() == corners
