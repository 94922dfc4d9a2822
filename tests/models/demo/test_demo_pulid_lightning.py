"""The demo weights of pulid-lightning: small, repeatable, under the real files' names."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from models.demo.face_code import CONTEXT_WIDTH
from models.demo.pulid_lightning import build
from models.demo.trained_files import SHIPPED
from models.weights.installed import InstalledWeight


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def roles(folder: Path) -> dict[str, InstalledWeight]:
    return {role.role: role for role in build(folder, SHIPPED)}


def test_the_roles_are_those_that_the_loader_asks_for(roles: dict[str, InstalledWeight]):
    checkpoints = {f"sdxl_checkpoint_{name}" for name in ("default", "artistic", "realistic")}
    assert roles.keys() == checkpoints | {"sdxl_config", "pulid_adapter", "eva_clip", "face_parser", "face_analysis"}
    assert all(role.used_by == ["pulid-lightning"] for role in roles.values())
    assert all(role.licence.startswith("facelight demo") for role in roles.values())


@pytest.mark.slow
def test_a_second_build_gives_the_same_bytes(roles: dict[str, InstalledWeight], tmp_path: Path):
    assert build(tmp_path, SHIPPED) == list(roles.values())


def test_they_are_small(roles: dict[str, InstalledWeight]):
    assert sum(file.size for role in roles.values() for file in role.files) <= 100_000_000


def test_face_models_have_their_real_names(roles: dict[str, InstalledWeight]):
    names = {Path(file.path).name for file in roles["face_analysis"].files}
    assert names == {"scrfd_10g_bnkps.onnx", "glintr100.onnx"}


def test_checkpoints_have_original_keys_and_differ(folder: Path):
    default, artistic = (load_file(folder / f"sdxl/{name}.safetensors") for name in ("default", "artistic"))
    prefixes = {".".join(key.split(".")[:3]) for key in default if key.startswith("conditioner.")}
    assert prefixes == {"conditioner.embedders.0", "conditioner.embedders.1"}
    assert default["conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight"].shape[0] == 3 * (
        CONTEXT_WIDTH - 128
    )
    assert default.keys() == artistic.keys()
    same = {key.split(".")[0] for key in default if (default[key] == artistic[key]).all()}
    assert same == {"first_stage_model"}


def test_the_vision_tower_and_the_adapter_have_the_converted_layout(folder: Path):
    tower, adapter = (load_file(folder / f"pulid/{name}.safetensors") for name in ("eva_clip", "adapter"))
    assert all(key.startswith("visual.trunk.") for key in tower)
    assert tower["visual.trunk.pos_embed"].shape[1] == 577
    assert sum(key.startswith("ip_adapter.") for key in adapter) == 6
    assert sum(key.startswith("image_proj.") for key in adapter) == 110
