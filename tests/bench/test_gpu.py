"""`bench.gpu` from end to end, with narrow networks on the processor."""

from __future__ import annotations

import math

import pytest
import torch

from bench import gpu
from bench.report import Record
from bench.timing import interleaved, matmul_rate

CPU = torch.device("cpu")


def measured(folder, *arguments: str) -> Record:
    path = gpu.main(["--device", "cpu", "--reduced", "--repeats", "1", "--out", str(folder), *arguments])
    return Record.model_validate_json(path.read_text())


def check_sound(record: Record) -> dict[str, float]:
    """All rows have finite values; the values by name."""
    assert record.complete
    assert record.rows
    values = {row.name: row.value for row in record.rows}
    assert len(values) == len(record.rows) or record.what.startswith("gpu-all")
    assert all(value is not None and math.isfinite(value) for value in values.values())
    return values


@pytest.mark.slow
def test_pulid_is_measured_against_both_baselines_and_the_roofline(tmp_path):
    record = measured(tmp_path, "--only", "a", "--budget-s", "280")
    values = check_sound(record)
    assert record.what == "gpu-a-reduced"
    assert values["pulid-lightning: request, roofline"] > 0
    assert values["pulid-lightning: request, ours / roofline"] >= 1
    assert values["pulid-lightning: evaluation at 32x32, diffusers / ours"] > 0
    # In single precision both are as far from double precision as rounding brings them.
    for way in ("ours", "diffusers"):
        assert 0 < values[f"pulid-lightning: latents of pass 1, distance to float64, {way}"] < 1e-4
    # Narrow networks on a processor show nothing of a device's goals.
    assert all(row.goal is None for row in record.rows)


@pytest.mark.slow
def test_a_run_that_is_cut_off_leaves_what_it_has(tmp_path):
    record = measured(tmp_path, "--only", "all", "--budget-s", "5")
    assert not record.complete
    assert record.finished is not None


@pytest.mark.slow
def test_ic_light_is_measured_against_both_baselines_and_the_roofline(tmp_path):
    values = check_sound(measured(tmp_path, "--only", "b"))
    for number in (1, 2):
        assert 0 < values[f"ic-light: latents of pass {number}, distance to float64, ours"] < 1e-2


@pytest.mark.slow
def test_stages_are_taken_apart(tmp_path):
    record = measured(tmp_path, "--only", "stages")
    values = check_sound(record)
    assert {"pulid-lightning: stage face", "pulid-lightning: stage UNet", "ic-light: stage matting"} <= values.keys()
    assert values["pulid-lightning: requests of them that would have to be compiled"] == 0
    assert any("kernel" in name for name in values)


@pytest.mark.slow
def test_the_compiled_baseline_is_measured_beside_ours(tmp_path):
    values = check_sound(measured(tmp_path, "--only", "ref", "--backend", "eager"))
    assert values["pulid-lightning: request, diffusers_compiled / ours"] > 0
    assert values["ic-light: request, diffusers_compiled / ours"] > 0


@pytest.mark.slow
def test_a_baseline_that_does_not_compile_is_told_and_the_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu.Session, "_ic_light", property(lambda self: self._pulid))
    record = measured(tmp_path, "--only", "ref", "--backend", "no-such-compiler")
    assert record.complete
    failed = [row for row in record.rows if row.value is None]
    assert len(failed) == 2
    assert all("no-such-compiler" in row.note for row in failed)


def test_turns_are_taken_after_one_round_that_does_not_count():
    done: list[str] = []
    timings = interleaved({"a": lambda: done.append("a"), "b": lambda: done.append("b")}, CPU, 3)
    assert done == ["a", "b"] * 4
    assert all(0 <= timing.least <= timing.median for timing in timings.values())


def test_the_rate_of_matrix_products_is_that_of_a_machine():
    assert 1e8 < matmul_rate(CPU, torch.float32, 1) < 1e14


def test_unknown_sections_are_refused(capsys):
    with pytest.raises(SystemExit):
        gpu.main(["--only", "c"])
    assert "invalid choice" in capsys.readouterr().err
