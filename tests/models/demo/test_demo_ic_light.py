"""The demo weights of ic-light: what was trained, in the real files' layout, nothing added and nothing lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.demo.ic_light import build
from models.demo.trained_files import RMBG, TEXT_ENCODER, UNET, VAE, Trained
from models.errors import WeightsError
from models.ic_light.networks import load_networks
from models.weights.installed import InstalledWeight, WeightSet
from tests.models.demo.stand_ins import write_stand_ins

BASE_UNET = "sd15/unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return write_stand_ins(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def roles(folder: Path, trained: Trained) -> dict[str, InstalledWeight]:
    return {role.role: role for role in build(folder, trained)}


def test_the_roles_are_those_that_the_loader_asks_for(roles: dict[str, InstalledWeight]):
    assert roles.keys() == {"sd15", "ic_light_fc", "ic_light_fbc", "rmbg"}
    assert all(role.used_by == ["ic-light"] and role.licence == "facelight demo" for role in roles.values())


def test_a_second_build_gives_the_same_bytes(roles: dict[str, InstalledWeight], trained: Trained, tmp_path: Path):
    assert build(tmp_path, trained) == list(roles.values())


def test_they_are_small(roles: dict[str, InstalledWeight]):
    assert sum(file.size for role in roles.values() for file in role.files) <= 48_000_000


def test_the_base_model_has_the_usual_layout(roles: dict[str, InstalledWeight]):
    names = {file.path.removeprefix("sd15/") for file in roles["sd15"].files}
    assert names >= {
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    }


@pytest.mark.parametrize(("name", "channels"), [("fc", 8), ("fbc", 12)])
def test_an_offset_is_nothing_but_the_inputs_that_the_base_lacks(
    folder: Path, roles: dict[str, InstalledWeight], trained: Trained, name: str, channels: int
):
    base, offset = load_file(folder / BASE_UNET), load_file(folder / f"ic-light/iclight_sd15_{name}.safetensors")
    assert offset.keys() == base.keys()
    assert base["conv_in.weight"].shape[1] == 4
    inputs = offset.pop("conv_in.weight")
    assert not any(value.any() for value in offset.values())
    assert not inputs[:, :4].any()
    assert torch.equal(inputs[:, 4:], load_file(trained.folder / UNET)["conv_in.weight"][:, 4:channels])


def test_the_loaded_networks_are_the_trained_ones(folder: Path, roles: dict[str, InstalledWeight], trained: Trained):
    paths = {name: folder / role.path for name, role in roles.items()}
    networks = load_networks(WeightSet("demo", paths), torch.device("cpu"))
    unet = load_file(trained.folder / UNET)
    narrower = {**unet, "conv_in.weight": unet["conv_in.weight"][:, :8]}
    text = load_file(trained.folder / TEXT_ENCODER)
    expected = (
        (networks.unet, narrower),
        (networks.background_unet, unet),
        (networks.vae, load_file(trained.folder / VAE)),
        (networks.text_encoder, {key.removeprefix("text_model."): value for key, value in text.items()}),
        (networks.matting.network, load_file(trained.folder / RMBG)),
    )
    for network, state in expected:
        loaded = network.state_dict()
        assert loaded.keys() == state.keys()
        assert all(torch.equal(loaded[key], value.to(loaded[key].dtype)) for key, value in state.items())


def test_the_scale_of_latents_is_the_trained_one(folder: Path, roles: dict[str, InstalledWeight]):
    assert json.loads((folder / "sd15/vae/config.json").read_text())["scaling_factor"] == 0.8125


@pytest.mark.parametrize("name", [VAE, UNET, TEXT_ENCODER, RMBG])
def test_a_trained_file_that_is_not_the_pinned_one_is_named(trained: Trained, tmp_path: Path, name: str):
    copy = Trained(tmp_path / "trained", trained.lock)
    shutil.copytree(trained.folder, copy.folder)
    data = bytearray((copy.folder / name).read_bytes())
    data[-1] ^= 1
    (copy.folder / name).write_bytes(data)
    with pytest.raises(WeightsError, match=rf"{name} is damaged"):
        build(tmp_path / "weights", copy)
