"""Loading refuses files that do not make a whole network."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.errors import WeightsError
from models.ic_light.networks import load_networks
from models.weights.weight_set import WeightSet

CPU = torch.device("cpu")


def without(weights: WeightSet, role: str, file: str, key: str, folder: Path) -> WeightSet:
    """The same weights with one tensor of one file left out."""
    target = folder / role
    source = weights[role]
    shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    state = load_file(target / file)
    del state[key]
    save_file(state, target / file, {"format": "pt"})
    return WeightSet(weights.kind, {**weights.paths, role: target})


@pytest.mark.parametrize(
    ("role", "file", "key"),
    [
        ("sd15", "vae/diffusion_pytorch_model.safetensors", "decoder.conv_out.bias"),
        ("sd15", "text_encoder/model.safetensors", "text_model.final_layer_norm.weight"),
        ("sd15", "unet/diffusion_pytorch_model.safetensors", "conv_in.bias"),
        ("rmbg", "", "side6.bias"),
        ("rmbg", "", "conv_in.weight"),
    ],
)
def test_a_missing_tensor_is_never_filled_with_chance(weights: WeightSet, tmp_path: Path, role, file, key):
    with pytest.raises(WeightsError):
        load_networks(without(weights, role, file, key, tmp_path), CPU)


def test_a_missing_folder_is_reported(weights: WeightSet, tmp_path: Path):
    shutil.copytree(weights["sd15"], tmp_path / "sd15", ignore=shutil.ignore_patterns("tokenizer"))
    with pytest.raises(WeightsError):
        load_networks(WeightSet(weights.kind, {**weights.paths, "sd15": tmp_path / "sd15"}), CPU)


@pytest.mark.parametrize("roles", [(), ("rmbg", "matting_onnx_isnet")])
def test_there_must_be_one_matting_network(weights: WeightSet, roles: tuple[str, ...]):
    paths = {role: path for role, path in weights.paths.items() if role != "rmbg"}
    with pytest.raises(WeightsError, match="one role of rmbg"):
        load_networks(WeightSet(weights.kind, paths | {role: weights["rmbg"] for role in roles}), CPU)


def test_the_network_that_sees_a_background_is_optional(weights: WeightSet):
    paths = {role: path for role, path in weights.paths.items() if role != "ic_light_fbc"}
    assert load_networks(WeightSet(weights.kind, paths), CPU).background_unet is None


def test_every_part_is_told_with_its_size(weights: WeightSet, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", logger="models")
    load_networks(weights, CPU)
    told = [re.sub(r": \d+ MB in \d+\.\d s", "", line) for line in caplog.messages]
    assert told == ["sd15 text_encoder", "ic_light_fc", "ic_light_fbc", "sd15 vae", "rmbg"]


def test_on_the_cpu_everything_is_float32_and_in_evaluation_mode(networks):
    for network in (
        networks.text_encoder,
        networks.unet,
        networks.background_unet,
        networks.vae,
        networks.matting.network,
    ):
        assert not network.training
        assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
