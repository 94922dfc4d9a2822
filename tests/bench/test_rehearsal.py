"""`bench.rehearsal`: files of the published sizes and layouts, and a whole rehearsal with narrow networks."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file

from bench.full_size.stored import Content, Stored, file_size, read_header, write
from bench.full_size.values import RandomValues
from bench.rehearsal.layouts import Networks, contents, networks
from bench.rehearsal.processes import memory_limit, run
from bench.rehearsal.published import Publisher
from bench.report import Record
from cli.weights.items import items_of
from models.weights.lock import SHIPPED_LOCK, read_lock
from tests.models.published import Shapes, key_list

LOCK = read_lock(SHIPPED_LOCK)
EXACT = {
    "sdxl/sdxl-lightning.safetensors",
    "sdxl/juggernaut-xl-lightning.safetensors",
    "pulid/pulid-v1-fp16.safetensors",
    "pulid/pulid-v1.1.safetensors",
    "sd15/stable-diffusion-v1.5/text_encoder/model.safetensors",
    "sd15/stable-diffusion-v1.5/unet/diffusion_pytorch_model.safetensors",
    "sd15/stable-diffusion-v1.5/vae/diffusion_pytorch_model.safetensors",
    "ic-light/iclight_sd15_fc.safetensors",
    "ic-light/iclight_sd15_fbc.safetensors",
    "matting/rmbg-1.4.safetensors",
}
"""Files whose published size follows from names, shapes and types alone."""
FILLED = {
    "sdxl/dreamshaper-xl-lightning.safetensors",
    "sdxl/dreamshaper-xl-lightning-original.safetensors",
    "sdxl/realvisxl-v5-lightning.safetensors",
    "pulid/eva02-clip-l-336-timm.safetensors",
}
"""Files that are larger as published: with metadata that nobody described."""
SIMILAR = ("dreamshaper-xl-lightning-original", "sdxl-lightning", "proteus-v0.4-lightning", "realvisxl-v5-lightning")
"""Checkpoints of the same layout as the one that is served."""
MOST_FILLED = 1_200_000


@pytest.fixture(scope="module")
def of_full_size() -> Networks:
    return networks(reduced=False)


@pytest.fixture(scope="module")
def full(of_full_size: Networks) -> dict[str, Content]:
    return contents(of_full_size)


def shapes(content: Content, prefix: str = "") -> Shapes:
    return {key.removeprefix(prefix): stored.shape for key, stored in content.tensors.items() if key.startswith(prefix)}


def without_counters(of: Shapes) -> Shapes:
    return {key: shape for key, shape in of.items() if not key.endswith("num_batches_tracked")}


@pytest.mark.slow
def test_files_have_the_published_sizes(full: dict[str, Content]):
    sizes = {file.path: file.size for weight in LOCK.weights for file in weight.files}
    missing = {path: sizes[path] - file_size(full[path]) for path in EXACT | FILLED}
    assert {path for path, size in missing.items() if size == 0} == EXACT
    assert all(0 < missing[path] <= MOST_FILLED for path in FILLED)


def test_every_file_of_tensors_in_the_lock_has_a_layout(full: dict[str, Content]):
    named = {file.path for weight in LOCK.weights for file in weight.files if file.path.endswith(".safetensors")}
    assert full.keys() == named


@pytest.mark.parametrize(
    ("path", "prefix", "golden"),
    [
        ("pulid/eva02-clip-l-336.safetensors", "visual.", "pulid/eva_real.json"),
        ("pulid/pulid-v1.safetensors", "id_adapter.", "pulid/id_encoder_v1_real.json"),
        ("pulid/pulid-v1.1.safetensors", "id_adapter.", "pulid/id_former_v11_real.json"),
        ("face/parsing_bisenet.safetensors", "", "pulid/bisenet_real.json"),
        ("ic-light/iclight_sd15_fcon.safetensors", "", "iclight/unit/iclight_fc_keys_fullsize.json"),
    ],
)
def test_names_and_shapes_are_those_of_the_published_key_lists(
    full: dict[str, Content], path: str, prefix: str, golden: str
):
    published = {key.removeprefix(prefix): shape for key, shape in key_list(golden).items()}
    assert without_counters(shapes(full[path], prefix)) == published


def test_a_written_file_is_read_by_the_library_and_has_the_size_that_is_asked_for(tmp_path: Path):
    content = Content(
        {"b.weight": Stored("F16", (1000, 601)), "a.bias": Stored("F32", (7,)), "position_ids": Stored("I64", (1, 77))},
        {"format": "pt"},
        seed=5,
    )
    draw, path, size = RandomValues(), tmp_path / "file.safetensors", file_size(content) + 12_345
    assert write(path, content, draw, size) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.stat().st_size == size
    assert read_header(path) == content.tensors
    found = load_file(path)
    assert found["position_ids"].tolist() == [list(range(77))]
    weight = found["b.weight"].float()
    assert np.array_equal(found["b.weight"].numpy(), draw.array("b.weight", content.tensors["b.weight"], 5, 1))
    assert weight.std().item() == pytest.approx(601**-0.5, rel=0.02)
    assert len(torch.unique(weight, dim=0)) == 1000, "no two rows are alike"


def test_values_follow_from_name_and_seed():
    draw, stored = RandomValues(), Stored("F16", (40, 50))
    first = draw.array("a.weight", stored, 1, 1)
    assert np.array_equal(first, RandomValues().array("a.weight", stored, 1, 1))
    assert not np.array_equal(first, draw.array("b.weight", stored, 1, 1))
    assert not np.array_equal(first, draw.array("a.weight", stored, 2, 1))


def test_graphs_and_archives_are_filled_to_the_size_that_the_lock_names(tmp_path: Path, of_full_size: Networks):
    small = Publisher(tmp_path, of_full_size, reduced=True, fill=False).publish(LOCK.named("antelopev2"))
    files = [file.model_copy(update={"size": (file.size or 0) + 300}) for file in small.files]
    wanted = small.model_copy(update={"files": files, "source": small.source.model_copy(update={"size": 1_000_000})})
    written = Publisher(tmp_path, of_full_size, reduced=True, fill=True).publish(wanted)
    assert [file.size for file in written.files] == [file.size for file in files]
    (item,) = items_of(written)
    path = tmp_path / item.mirror_path
    assert path.stat().st_size == item.size == 1_000_000
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        for file in written.files:
            content = archive.read(file.origin)
            assert len(content) == file.size
            onnx.checker.check_model(onnx.load_from_string(content))


def test_a_command_cannot_take_more_memory_than_its_limit(tmp_path: Path):
    command = [sys.executable, "-c", "block = bytearray(b'x') * (400 << 20); print(len(block))"]
    with memory_limit(2 << 30) as prefix:
        run([*prefix, *command], tmp_path / "log", {})
    with memory_limit(200 << 20) as prefix, pytest.raises(subprocess.CalledProcessError):
        run([*prefix, *command], tmp_path / "log", {})


def test_what_a_command_takes_is_measured(tmp_path: Path):
    code = "import time; block = bytearray(b'x') * (300 << 20); end = time.process_time() + 0.2\n"
    code += "while time.process_time() < end: pass\ntime.sleep(0.5)"
    seconds, usage = run([sys.executable, "-c", code], tmp_path / "log", {})
    assert seconds > 0.5
    assert usage.cpu_s >= 0.2
    assert usage.peak > usage.anonymous > 300 << 20


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_whole_rehearsal_with_narrow_networks_misses_no_goal(tmp_path: Path):
    folder = tmp_path / "files"
    command = [sys.executable, "-m", "bench.rehearsal", "--reduced", "--folder", str(folder), "--out", str(tmp_path)]
    for name in SIMILAR:
        command += ["--without", name]
    for further in (["--only", "install", "--keep"], []):
        subprocess.run([*command, *further], check=True, timeout=900, capture_output=True)
    (file,) = tmp_path.glob("rehearsal-reduced-*.json")
    record = Record.model_validate_json(file.read_text())
    assert record.complete
    rows = {row.name: row for row in record.rows}
    assert len(rows) == len(record.rows)
    assert [row.name for row in record.rows if row.reached is False] == []
    assert rows["pulid-v1-fp16: wrong sizes, names, shapes, types"].note == "144 tensors; by an earlier run"
    for slug in ("pulid-lightning", "ic-light"):
        assert rows[f"{slug}: same bytes for the same seed"].value == 1
    assert "damaged: " in rows["a truncated checkpoint: pulid-lightning refused"].note
    assert not any(str(folder) in row.note for row in record.rows)
    assert not folder.exists()
