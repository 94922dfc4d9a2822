"""Loading refuses files that do not make a whole network."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from models.errors import WeightsError
from models.ic_light.networks import load_networks, load_vae
from models.weights.folder import Folder
from models.weights.installed import WeightSet

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


OLDER = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
"""How published autoencoders call the layers of their attention, by today's names."""


def test_an_autoencoder_of_older_names_loads_as_the_library_has_it(tmp_path: Path):
    sizes = {"block_out_channels": (8,) * 4, "norm_num_groups": 2, "layers_per_block": 1, "latent_channels": 4}
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    AutoencoderKL(**sizes, **kinds).save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    for new, old in OLDER.items():
        state = {key.replace(new, old) if ".attentions.0." in key else key: value for key, value in state.items()}
    assert sum(".query." in key for key in state) == 4
    save_file(state, file, {"format": "pt"})
    ours, theirs = load_vae(Folder.as_found(tmp_path), CPU, torch.float32), AutoencoderKL.from_pretrained(tmp_path)
    assert_equal(ours, theirs)


def test_a_text_encoder_without_its_prefix_is_the_same(weights: WeightSet, networks, tmp_path: Path):
    base, name = shutil.copytree(weights["sd15"], tmp_path / "sd15"), "text_encoder/model.safetensors"
    state = {key.removeprefix("text_model."): tensor for key, tensor in load_file(base / name).items()}
    save_file(state, base / name, {"format": "pt"})
    again = load_networks(WeightSet(weights.kind, {**weights.paths, "sd15": base}), CPU)
    assert_equal(again.text_encoder, networks.text_encoder)


def assert_equal(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    found, due = ours.state_dict(), theirs.state_dict()
    assert found.keys() == due.keys()
    assert all(torch.equal(found[key], due[key]) for key in due)


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
