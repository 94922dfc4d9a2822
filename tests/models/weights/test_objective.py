"""Networks that predict anything but noise are refused by the marks that their makers leave."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from models.errors import WeightFileError
from models.weights.installed import read_installed
from models.weights.objective import require_noise_prediction
from tests.models.weights.test_wrong_files import Operator
from workers.engine.model_loader import LoadedModels
from workers.settings import WorkerSettings
from workers.state.registry import ModelState

EMPTY = torch.tensor([])
TENSORS = ({"v_pred": EMPTY}, {"ztsnr": EMPTY}, {"edm_vpred.sigma_max": EMPTY}, {"edm_mean": EMPTY, "edm_std": EMPTY})
HEADS = (
    {"modelspec.prediction_type": "v"},
    {"modelspec.prediction_type": "V_Prediction"},
    {"modelspec.predict_key": "v"},
    {"ss_v_parameterization": "True"},
    {"ss_zero_terminal_snr": "true"},
)
INNOCENT = (
    {},
    {"format": "pt", "modelspec.architecture": "stable-diffusion-xl-v1-base"},
    {"modelspec.prediction_type": "epsilon", "modelspec.predict_key": "Epsilon"},
    {"ss_v_parameterization": "False", "ss_zero_terminal_snr": "None", "modelspec.prediction_type": ""},
)


@pytest.mark.parametrize("tensors", TENSORS, ids=lambda tensors: "+".join(tensors))
def test_marks_among_the_tensors(tmp_path: Path, tensors: dict[str, torch.Tensor]):
    save_file({"a.weight": torch.ones(2)} | tensors, tmp_path / "file.safetensors")
    with pytest.raises(
        WeightFileError, match=rf"file\.safetensors: it predicts velocity.*\({', '.join(sorted(tensors))}\)"
    ):
        require_noise_prediction(tmp_path / "file.safetensors")


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_marks_in_the_head(tmp_path: Path, head: dict[str, str]):
    save_file({"a.weight": torch.ones(2)}, tmp_path / "file.safetensors", head)
    ((name, value),) = head.items()
    with pytest.raises(WeightFileError, match=rf"it predicts velocity.*{name} = {value.lower()}.*epsilon"):
        require_noise_prediction(tmp_path / "file.safetensors")


@pytest.mark.parametrize("head", INNOCENT, ids=str)
def test_what_predicts_noise_passes(tmp_path: Path, head: dict[str, str]):
    save_file({"model.v_predictor.weight": torch.ones(2)}, tmp_path / "file.safetensors", head)
    require_noise_prediction(tmp_path / "file.safetensors")


MARKED = {
    "pulid-lightning": ("sdxl/artistic.safetensors", TENSORS[0] | TENSORS[1], {}),
    "ic-light": ("sd15/unet/diffusion_pytorch_model.safetensors", {}, HEADS[0]),
}


@pytest.mark.parametrize("slug", MARKED)
def test_a_worker_refuses_them_by_name(demo_weights: Path, tmp_path: Path, slug: str):
    operator, (file, tensors, head) = Operator(demo_weights, tmp_path / "weights"), MARKED[slug]
    operator.replace(file, save(load_file(demo_weights / file) | tensors, head))
    operator.record(file)
    assert state_of(operator, tmp_path, slug).startswith(f"cannot load: {operator.root / file}: it predicts velocity")


def test_a_recorded_scheduler_of_another_objective_counts_for_its_base(demo_weights: Path, tmp_path: Path):
    operator, name = Operator(demo_weights, tmp_path / "weights"), "sd15/scheduler/scheduler_config.json"
    (operator.root / name).parent.mkdir()
    (operator.root / name).write_text('{"prediction_type": "v_prediction", "rescale_betas_zero_snr": true}')
    operator.add("sd15", name)
    detail = state_of(operator, tmp_path, "ic-light")
    assert detail.startswith(f"cannot load: {operator.root / name}: it predicts velocity")
    assert "prediction_type = v_prediction, rescale_betas_zero_snr = true" in detail


def state_of(operator: Operator, folder: Path, slug: str) -> str:
    """What a worker says of a model that it cannot serve."""
    assert read_installed(operator.root)
    models = LoadedModels("w", WorkerSettings(data_dir=folder, weights_dir=operator.root, device="cpu", models=(slug,)))
    models.load(on_change=lambda: None)
    report = models.report().models[slug]
    assert report.state is ModelState.FAILED
    return report.detail
