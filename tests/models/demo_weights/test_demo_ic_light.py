"""The demo weights of ic-light: small, repeatable, of the real files' layout."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from models.demo_weights.ic_light import build
from models.weights.installed import InstalledWeight


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def roles(folder: Path) -> dict[str, InstalledWeight]:
    return {role.role: role for role in build(folder)}


def test_the_roles_are_those_that_the_loader_asks_for(roles: dict[str, InstalledWeight]):
    assert roles.keys() == {"sd15", "ic_light_fc", "ic_light_fbc", "rmbg"}
    assert all(role.used_by == ["ic-light"] and role.licence == "facelight demo" for role in roles.values())


def test_a_second_build_gives_the_same_bytes(roles: dict[str, InstalledWeight], tmp_path: Path):
    assert build(tmp_path) == list(roles.values())


def test_they_are_small(roles: dict[str, InstalledWeight]):
    assert sum(file.size for role in roles.values() for file in role.files) <= 12_000_000


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


def test_the_keys_are_those_of_the_real_files(folder: Path, roles: dict[str, InstalledWeight]):
    base = load_file(folder / "sd15/unet/diffusion_pytorch_model.safetensors")
    assert len(base) == 686
    assert base["conv_in.weight"].shape[1] == 4
    for name, channels in (("fc", 8), ("fbc", 12)):
        offset = load_file(folder / f"ic-light/iclight_sd15_{name}.safetensors")
        assert offset.keys() == base.keys()
        assert offset["conv_in.weight"].shape[1] == channels
        assert all(str(value.dtype) == "torch.float16" for value in offset.values())
    assert len(load_file(folder / "rmbg/model.safetensors")) == 798
