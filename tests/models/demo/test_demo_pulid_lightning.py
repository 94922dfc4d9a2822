"""The demo weights of pulid-lightning: small, repeatable, under the real files' names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.demo.face_code import CONTEXT_WIDTH
from models.demo.pulid_lightning import build
from models.demo.trained_files import PORTRAIT_ADAPTER, PORTRAIT_TEXT, PORTRAIT_UNET, VAE, Trained, save_trained
from models.errors import WeightsError
from models.pulid_lightning.adapter import place_projections, read_adapter
from models.pulid_lightning.single_file import SingleFile
from models.weights.folder import Folder
from models.weights.installed import InstalledWeight
from tests.models.demo.stand_ins import write_stand_ins

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return write_stand_ins(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def roles(folder: Path, trained: Trained) -> dict[str, InstalledWeight]:
    return {role.role: role for role in build(folder, trained)}


def test_the_roles_are_those_that_the_loader_asks_for(roles: dict[str, InstalledWeight]):
    checkpoints = {f"sdxl_checkpoint_{name}" for name in ("default", "artistic", "realistic")}
    assert roles.keys() == checkpoints | {"sdxl_config", "pulid_adapter", "eva_clip", "face_parser", "face_analysis"}
    assert all(role.used_by == ["pulid-lightning"] for role in roles.values())
    assert all(role.licence.startswith("facelight demo") for role in roles.values())


@pytest.mark.slow
def test_a_second_build_gives_the_same_bytes(roles: dict[str, InstalledWeight], trained: Trained, tmp_path: Path):
    assert build(tmp_path, trained) == list(roles.values())


def test_they_are_small(roles: dict[str, InstalledWeight]):
    assert sum(file.size for role in roles.values() for file in role.files) <= 100_000_000


def test_face_models_have_their_real_names(roles: dict[str, InstalledWeight]):
    names = {Path(file.path).name for file in roles["face_analysis"].files}
    assert names == {"scrfd_10g_bnkps.onnx", "glintr100.onnx"}


@pytest.mark.usefixtures("roles")
def test_checkpoints_have_original_keys_and_differ(folder: Path):
    default, artistic = (load_file(folder / f"sdxl/{name}.safetensors") for name in ("default", "artistic"))
    prefixes = {".".join(key.split(".")[:3]) for key in default if key.startswith("conditioner.")}
    assert prefixes == {"conditioner.embedders.0", "conditioner.embedders.1"}
    assert default["conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight"].shape[0] == 3 * (
        CONTEXT_WIDTH - 128
    )
    assert default.keys() == artistic.keys()
    different = {key for key in default if not (default[key] == artistic[key]).all()}
    assert different == {f"model.diffusion_model.out.2.{part}" for part in ("weight", "bias")}


@pytest.mark.usefixtures("roles")
def test_the_vision_tower_and_the_adapter_have_the_converted_layout(folder: Path):
    tower, adapter = (load_file(folder / f"pulid/{name}.safetensors") for name in ("eva_clip", "adapter"))
    assert all(key.startswith("visual.trunk.") for key in tower)
    assert tower["visual.trunk.pos_embed"].shape[1] == 577
    assert sum(key.startswith("ip_adapter.") for key in adapter) == 6
    assert sum(key.startswith("image_proj.") for key in adapter) == 110


@pytest.mark.usefixtures("roles")
def test_the_loaders_of_real_weights_find_every_trained_tensor(folder: Path, trained: Trained):
    checkpoint = SingleFile(folder / "sdxl/default.safetensors", Folder.as_found(folder / "sdxl/config"))
    networks = [getattr(checkpoint, part)(CPU, torch.float16) for part in ("unet", "vae", "clip_l", "clip_g")]
    texts = load_file(trained.verified(PORTRAIT_TEXT))
    expected = [
        *(load_file(trained.verified(name)) for name in (PORTRAIT_UNET, VAE)),
        *({key[2:]: value for key, value in texts.items() if key.startswith(prefix)} for prefix in ("l.", "g.")),
    ]
    for network, state in zip(networks, expected, strict=True):
        found = network.state_dict()
        assert found.keys() == state.keys()
        assert all(torch.equal(found[key], value) for key, value in state.items())
    assert networks[1].config.scaling_factor == trained.scaling_factor()
    projected = load_file(trained.verified(PORTRAIT_ADAPTER))
    adapter = place_projections(read_adapter(folder / "pulid/adapter.safetensors").projections, CPU, torch.float16)
    assert len(projected) == 2 * len(adapter)
    for layer, projection in adapter.items():
        assert torch.equal(projection.key, projected[f"ip_adapter.{layer}.to_k_ip.weight"])
        assert torch.equal(projection.value, projected[f"ip_adapter.{layer}.to_v_ip.weight"])


@pytest.mark.parametrize("name", [PORTRAIT_UNET, PORTRAIT_TEXT, PORTRAIT_ADAPTER])
def test_files_of_other_networks_are_refused(name: str, tmp_path: Path):
    trained = write_stand_ins(tmp_path / "trained")
    state = load_file(trained.verified(name))
    save_trained(trained.folder / name, {**state, next(iter(state)): torch.ones(3)})
    trained.pin()
    with pytest.raises(WeightsError, match=name):
        build(tmp_path / "weights", trained)
