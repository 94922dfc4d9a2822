"""The base UNet, widened for what it sees and offset."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.demo.random_weights import random_state
from models.errors import WeightsError
from models.ic_light.unet import load_unet
from models.weights.folder import Folder
from models.weights.installed import WeightSet

CPU = torch.device("cpu")
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def base(weights: WeightSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base like the demo's with values that half precision cannot hold, which those of the demo's all are."""
    folder: Path = tmp_path_factory.mktemp("base")
    shutil.copy(weights["sd15"] / "unet" / "config.json", folder)
    save_file(random_state(load_file(weights["sd15"] / "unet" / WEIGHTS), 1), folder / WEIGHTS)
    return folder


@pytest.fixture(scope="module", params=["ic_light_fc", "ic_light_fbc"])
def offset(request: pytest.FixtureRequest, weights: WeightSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Offsets like the demo's with values everywhere; most of the demo's are zero."""
    file: Path = tmp_path_factory.mktemp("offset") / "offset.safetensors"
    drawn = random_state(load_file(weights[request.param]), 2)
    save_file({key: value.half() for key, value in drawn.items()}, file)
    return file


def merged(base: Path, offset: Path, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    channels = load_file(offset)["conv_in.weight"].shape[1]
    return load_unet(Folder.as_found(base), offset, channels, dtype, CPU).state_dict()


def test_every_weight_is_base_plus_offset_in_float32(base: Path, offset: Path):
    network, ours, theirs = merged(base, offset), load_file(base / WEIGHTS), load_file(offset)
    assert network.keys() == ours.keys() == theirs.keys()
    for key in network.keys() - {"conv_in.weight"}:
        assert torch.equal(network[key], ours[key] + theirs[key].float()), key


def test_what_is_seen_besides_noise_comes_from_the_offset_alone(base: Path, offset: Path):
    network = merged(base, offset)["conv_in.weight"]
    ours, theirs = load_file(base / WEIGHTS)["conv_in.weight"], load_file(offset)["conv_in.weight"].float()
    assert torch.equal(network, torch.cat((ours + theirs[:, :4], theirs[:, 4:]), dim=1))


def test_half_precision_is_cast_after_the_sum(base: Path, offset: Path):
    single, half = merged(base, offset), merged(base, offset, torch.float16)
    assert all(torch.equal(value, single[key].half()) for key, value in half.items())
    ours, theirs = load_file(base / WEIGHTS), load_file(offset)
    early = {key: ours[key].half() + theirs[key] for key in ours.keys() - {"conv_in.weight"}}
    assert any(not torch.equal(value, half[key]) for key, value in early.items())


def change_offset(weights: WeightSet, folder: Path, **changes: torch.Tensor | None) -> Path:
    state = load_file(weights["ic_light_fc"]) | {key.replace("__", "."): value for key, value in changes.items()}
    save_file({key: value for key, value in state.items() if value is not None}, folder / "offset.safetensors")
    return folder / "offset.safetensors"


def test_a_missing_weight_is_named(weights: WeightSet, tmp_path: Path):
    offset = change_offset(weights, tmp_path, conv_out__bias=None)
    with pytest.raises(WeightsError, match=r"conv_out\.bias"):
        load_unet(weights.folder("sd15").inner("unet"), offset, 8, torch.float32, CPU)


@pytest.mark.parametrize("shape", [(16, 12, 3, 3), (16, 4, 3, 3)])
def test_an_offset_for_another_number_of_inputs_is_refused(weights: WeightSet, tmp_path: Path, shape):
    offset = change_offset(weights, tmp_path, conv_in__weight=torch.zeros(shape))
    with pytest.raises(WeightsError, match=r"conv_in\.weight"):
        load_unet(weights.folder("sd15").inner("unet"), offset, 8, torch.float32, CPU)


def test_weights_that_an_offset_has_beyond_the_unets_are_ignored(weights: WeightSet, tmp_path: Path):
    offset = change_offset(weights, tmp_path, another__weight=torch.zeros(3))
    assert load_unet(weights.folder("sd15").inner("unet"), offset, 8, torch.float32, CPU).config.in_channels == 8


def test_a_damaged_base_is_reported_as_such(weights: WeightSet, tmp_path: Path):
    shutil.copytree(weights["sd15"] / "unet", tmp_path / "unet")
    (tmp_path / "unet" / WEIGHTS).write_bytes(b"not tensors")
    with pytest.raises(WeightsError):
        load_unet(Folder.as_found(tmp_path / "unet"), weights["ic_light_fc"], 8, torch.float32, CPU)
