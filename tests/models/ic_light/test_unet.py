"""The base UNet, widened for what it sees and offset."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.errors import WeightsError
from models.ic_light.networks import Networks
from models.ic_light.unet import load_unet
from models.weights.weight_set import WeightSet

CPU = torch.device("cpu")


def test_every_weight_is_base_plus_offset_in_float32(networks: Networks, weights: WeightSet):
    base = load_file(weights["sd15"] / "unet" / "diffusion_pytorch_model.safetensors")
    offset = load_file(weights["ic_light_fc"])
    merged = networks.unet.state_dict()
    assert len(merged) == 686
    for key in merged.keys() - {"conv_in.weight"}:
        assert torch.equal(merged[key], base[key] + offset[key].float()), key


def test_the_foregrounds_channels_come_from_the_offset_alone(networks: Networks, weights: WeightSet):
    base = load_file(weights["sd15"] / "unet" / "diffusion_pytorch_model.safetensors")["conv_in.weight"]
    offset = load_file(weights["ic_light_fc"])["conv_in.weight"].float()
    conv_in = networks.unet.conv_in.weight
    assert torch.equal(conv_in[:, :4], base + offset[:, :4])
    assert torch.equal(conv_in[:, 4:], offset[:, 4:])


def test_the_backgrounds_channels_come_behind_the_foregrounds(networks: Networks, weights: WeightSet):
    base = load_file(weights["sd15"] / "unet" / "diffusion_pytorch_model.safetensors")["conv_in.weight"]
    offset = load_file(weights["ic_light_fbc"])["conv_in.weight"].float()
    conv_in = networks.background_unet.conv_in.weight
    assert torch.equal(conv_in, torch.cat((base + offset[:, :4], offset[:, 4:12]), dim=1))


def test_half_precision_is_cast_after_the_sum(networks: Networks, weights: WeightSet):
    half = load_unet(weights["sd15"] / "unet", weights["ic_light_fc"], 8, torch.float16, CPU)
    assert all(torch.equal(weight, networks.unet.state_dict()[key].half()) for key, weight in half.state_dict().items())


def change_offset(weights: WeightSet, folder: Path, **changes: torch.Tensor | None) -> Path:
    state = load_file(weights["ic_light_fc"]) | {key.replace("__", "."): value for key, value in changes.items()}
    save_file({key: value for key, value in state.items() if value is not None}, folder / "offset.safetensors")
    return folder / "offset.safetensors"


def test_a_missing_weight_is_named(weights: WeightSet, tmp_path: Path):
    offset = change_offset(weights, tmp_path, conv_out__bias=None)
    with pytest.raises(WeightsError, match=r"conv_out\.bias"):
        load_unet(weights["sd15"] / "unet", offset, 8, torch.float32, CPU)


@pytest.mark.parametrize("shape", [(16, 12, 3, 3), (16, 4, 3, 3)])
def test_an_offset_for_another_number_of_inputs_is_refused(weights: WeightSet, tmp_path: Path, shape):
    offset = change_offset(weights, tmp_path, conv_in__weight=torch.zeros(shape))
    with pytest.raises(WeightsError, match=r"conv_in\.weight"):
        load_unet(weights["sd15"] / "unet", offset, 8, torch.float32, CPU)


def test_weights_that_an_offset_has_beyond_the_unets_are_ignored(weights: WeightSet, tmp_path: Path):
    offset = change_offset(weights, tmp_path, another__weight=torch.zeros(3))
    assert load_unet(weights["sd15"] / "unet", offset, 8, torch.float32, CPU).config.in_channels == 8


def test_a_damaged_base_is_reported_as_such(weights: WeightSet, tmp_path: Path):
    shutil.copytree(weights["sd15"] / "unet", tmp_path / "unet")
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(WeightsError):
        load_unet(tmp_path / "unet", weights["ic_light_fc"], 8, torch.float32, CPU)
