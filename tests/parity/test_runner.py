"""The runner: what it finds, what it prints, and that it fails when it should."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.imaging.encode import encode
from tests.parity.__main__ import main, slack_of
from tests.parity.discover import discover
from tests.parity.iclight.case import Case
from tests.parity.iclight.golden_set import KEPT, GoldenSet
from tests.parity.iclight.stages import decoding
from tests.parity.pulid import KINDS, kind_of

GOLDEN = Path(__file__).parents[1] / "golden" / "pulid"
QueueKey = Callable[..., Path]


@pytest.fixture
def place(tmp_path: Path) -> QueueKey:
    """Copy golden files of these names into a folder below `tmp_path`, which is returned."""

    def copy(*names: str, folder: str = ".", suffix: str = "") -> Path:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            source = GOLDEN / name
            shutil.copy(source, tmp_path / folder / f"{source.stem}{suffix}{source.suffix}")
        return tmp_path

    return copy


def change(file: Path, name: str) -> None:
    """Move one value of a vector by a little more than its tolerance."""
    tensors = load_file(file)
    tensors[name].view(-1)[7] += 0.01
    save_file(tensors, file)


def test_each_comparison_has_a_line(place: QueueKey, capsys):
    assert main([str(place("recipe_check.safetensors", "recipe_check.json", folder="a/b"))]) == 0
    header, *lines, summary = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "difference", "tolerance"]
    assert len(lines) == 8
    assert all(line.startswith("a/b/recipe_check: ") and "PASS" in line for line in lines)
    assert summary == "8 comparisons, 0 failed"


def test_json_is_one_document(place: QueueKey, capsys):
    folder = place("align.safetensors", "align.json")
    change(folder / "align.safetensors", "affine")
    assert main([str(folder), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["passed"] is False
    verdicts = {row["name"]: row["verdict"] for row in report["rows"]}
    assert verdicts["align: affine 1"] == "FAIL"
    assert verdicts["align: affine 0"] == "PASS"
    (row,) = (row for row in report["rows"] if row["name"] == "align: affine 1")
    assert row["difference"] == pytest.approx(0.01)
    assert row["tolerance"] == pytest.approx(1e-4)


def test_nothing_to_compare_is_a_failure(tmp_path: Path, capsys):
    (tmp_path / "README.md").write_text("nothing")
    assert main([str(tmp_path)]) == 1
    assert main([str(tmp_path / "absent")]) == 1
    assert main([str(tmp_path), "--json"]) == 1
    assert "nothing to compare" in capsys.readouterr().out


def test_an_unreadable_file_fails_and_hides_no_other(place: QueueKey, capsys):
    folder = place("recipe_check.safetensors")
    (folder / "align.safetensors").write_bytes(b"torn")
    (folder / "prompt_tokens.json").write_text("{")
    assert main([str(folder), "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)["rows"]
    failed = {row["name"]: row["difference"] for row in rows if not row["passed"]}
    assert failed == {"align": None, "prompt_tokens": None}
    assert sum(row["passed"] for row in rows) == 8


@pytest.mark.parametrize("name", ["align.json", "sampler_dpmpp_sde.json", "bisenet_real.json"])
def test_half_a_vector_fails(place: QueueKey, name: str):
    assert main([str(place(name))]) == 1


def test_a_vector_of_no_known_kind_fails(place: QueueKey, capsys):
    assert main([str(place("recipe_check.safetensors", suffix="_of_pulid"))]) == 0
    shutil.copy(GOLDEN / "align.safetensors", place() / "alignment.safetensors")
    assert main([str(place())]) == 1
    assert "alignment" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("stem", "kind"),
    [
        ("eva_small", "eva_small"),
        ("id_encoder_v1_small_2", "id_encoder_v1_small"),
        ("align.seed7", "align"),
        ("aligned", None),
        ("attn", None),
    ],
)
def test_files_are_known_by_how_their_name_begins(stem: str, kind: str | None):
    assert kind_of(stem) == kind


def test_the_header_of_a_vector_serves_where_its_json_is_absent(place: QueueKey):
    assert main([str(place("attn_comfy.safetensors"))]) == 0


def test_vectors_may_be_drawn_from_another_seed(place: QueueKey, capsys):
    folder = place("prompt_weighting.safetensors", "prompt_weighting.json")
    file = folder / "prompt_weighting.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"recipe_seed": 1}))
    assert main([str(folder)]) == 1
    assert "0.cond" in capsys.readouterr().out


@torch.inference_mode()
def test_every_picture_of_a_case_is_compared_under_its_name(tmp_path: Path):
    """`_out1` as it should be, `_out2` another picture, `_out3` beyond the outputs that the case has."""
    name, device = "fc_d_top_long", torch.device("cpu")
    shutil.copytree(KEPT / "cases", tmp_path / "cases")
    file = tmp_path / "cases" / f"{name}.safetensors"
    first = load_file(file)["final_u8"][0]
    outputs = [first, first.flip(1).contiguous(), first.flip(0).contiguous()]
    save_file(load_file(file) | {"final_u8": torch.stack(outputs)}, file)
    for number, picture in {1: outputs[1], 2: first, 3: first}.items():
        (tmp_path / "cases" / f"{name}_out{number}.png").write_bytes(encode(picture.numpy(), "png", 100))
    assert {found for found, _ in discover(tmp_path, device)} == {f"cases/{name}"}
    verdicts = {}
    with pytest.raises(IndexError):
        for row in decoding(Case(GoldenSet(tmp_path, device), name)):
            verdicts[row.name] = row.passed
    assert [verdicts[f"out{number}.png"] for number in range(3)] == [True, True, False]


def test_another_device_has_more_room():
    assert [slack_of(torch.device(name)) for name in ("cpu", "cuda:0")] == [1, 10]


def test_every_kind_of_vector_is_here_but_one_too_big():
    here = {kind_of(file.stem) for file in GOLDEN.iterdir()}
    assert set(KINDS) - here == {"eva_tiny"}
