"""The demo weights' files against the published ones' key lists: same tensors, same shapes but for widths, same types.

They have fewer layers besides, and SDXL's UNet has them at other places; what they have of a layer, they have whole.

What a network of full size is loaded from is tested beside each model (`test_structure`); here it is the files that
everything else is tested with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from timm.models.eva import checkpoint_filter_fn

from bench.full_size import ic_light as sd15
from bench.full_size import pulid_lightning as sdxl
from models.demo.original_keys import clip_g_state, clip_l_key, unet_state, vae_state
from models.weights.installed import read_installed
from models.weights.lock import read_lock
from tests.conftest import REPOSITORY
from tests.models.published import Shapes, Stored, file_size, half, key_list, shapes

LOCK = read_lock(REPOSITORY / "weights.lock")
HEAD = {"format": "pt"}
"""What the libraries of diffusion models write into the head of a file."""
HALF = {"F16"}
SINGLE = {"F32"}
COUNTER = "num_batches_tracked"

WIDTHS_BEGIN = 16
"""No published layer is narrower; what is smaller is a kernel, a channel of pictures or latents, a patch's side."""
NO_WIDTHS = {19, 77, 577}
"""Classes of a face, tokens of a text, tokens of a picture."""
ADAPTER_LAYERS = re.compile(r"ip_adapter\.\d+\.to_[kv]_ip\.weight")
UNET = key_list("iclight/unit/iclight_fc_keys_fullsize.json")
LAYER = re.compile(r".*?(?:(?:resnets|attentions|layers|resblocks|block)\.\d+|mid\.attn_1)")
SHORTCUT = re.compile(r"\.(?:conv|nin)_shortcut\.")
"""What a residual block has only if its two widths differ."""
UNET_LAYER = re.compile(r"(model\.diffusion_model\.(?:(?:input|output)_blocks\.\d+|middle_block)\.\d+)\.(.+)")
BEYOND_THE_FIRST = re.compile(r"transformer_blocks\.[1-9]")


def files_of(demo: Path, role: str) -> Path:
    return next(demo / weight.path for weight in read_installed(demo).weights if weight.role == role)


def stored(path: Path) -> dict[str, Stored]:
    with safe_open(path, "pt") as file:
        slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118  # no mapping
    return {key: Stored(str(part.get_dtype()), tuple(part.get_shape())) for key, part in slices.items()}


def differences(file: Mapping[str, Stored], published: Shapes) -> list[str]:
    """Keys that only one side has, and tensors that differ in more than widths."""
    lone = [f"only one side has {key}" for key in sorted(file.keys() ^ published.keys())]
    pairs = {key: (file[key].shape, published[key]) for key in file.keys() & published.keys()}
    return lone + [f"{key}: {ours} for {theirs}" for key, (ours, theirs) in pairs.items() if not fits(ours, theirs)]


def fits(ours: tuple[int, ...], theirs: tuple[int, ...]) -> bool:
    fixed = [(a, b) for a, b in zip(ours, theirs, strict=False) if b < WIDTHS_BEGIN or b in NO_WIDTHS]
    return len(ours) == len(theirs) and all(a == b for a, b in fixed)


def types(file: Mapping[str, Stored]) -> set[str]:
    return {tensor.dtype for tensor in file.values()}


def without_missing_layers(file: Mapping[str, Stored], published: Shapes) -> Shapes:
    """The published list less the layers of which the file has nothing, and less the shortcuts that it lacks."""
    layers = {layer_of(key) for key in file}
    return {
        key: shape
        for key, shape in published.items()
        if key in file or (layer_of(key) in layers and not SHORTCUT.search(key))
    }


def layer_of(key: str) -> str:
    found = LAYER.match(key)
    return found[0] if found else ""


@pytest.fixture(autouse=True)
def on_meta():
    """Networks of full size are made without storage."""
    with torch.device("meta"):
        yield


def published_checkpoint() -> Shapes:
    clip_l = shapes({clip_l_key(key): tensor for key, tensor in sdxl.clip_l().state_dict().items()})
    clip_g = shapes(clip_g_state(sdxl.clip_g().state_dict()))
    unet = shapes(unet_state(sdxl.unet().state_dict()))
    return clip_l | clip_g | unet | shapes(vae_state(sdxl.vae().state_dict()))


def unet_layers(state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What the layers of a checkpoint's UNet hold, by place; of a transformer the first block."""
    layers: dict[str, dict[str, Any]] = {}
    for key, value in state.items():
        if (found := UNET_LAYER.fullmatch(key)) and not BEYOND_THE_FIRST.match(found[2]):
            layers.setdefault(found[1], {})[found[2]] = value
    return layers


def outside_unet_layers(state: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if not UNET_LAYER.fullmatch(key)}


@pytest.mark.parametrize("name", ["default", "artistic", "realistic"])
def test_checkpoints_of_sdxl(demo_weights: Path, name: str):
    file = stored(files_of(demo_weights, f"sdxl_checkpoint_{name}"))
    published = published_checkpoint()
    rest = outside_unet_layers(file)
    assert differences(rest, without_missing_layers(rest, outside_unet_layers(published))) == []
    kinds = unet_layers(published).values()
    ours = unet_layers(file)
    assert [place for place, layer in ours.items() if all(differences(layer, kind) for kind in kinds)] == []
    assert len(ours) == 29
    assert types(file) == HALF


def test_the_adapter_of_pulid(demo_weights: Path):
    file = stored(files_of(demo_weights, "pulid_adapter"))
    encoder = {f"image_proj.{key}": shape for key, shape in key_list("pulid/id_encoder_v1_real.json").items()}
    layers = {key: tensor for key, tensor in file.items() if ADAPTER_LAYERS.fullmatch(key)}
    assert differences({key: tensor for key, tensor in file.items() if key not in layers}, encoder) == []
    assert len(layers) == 2 * 3
    assert {tensor.shape[1] for tensor in layers.values()} == {file["image_proj.mapping_0.6.weight"].shape[0]}
    assert types(file) == HALF


def test_the_vision_tower(demo_weights: Path):
    """The demo's has the layout of the edition published by timm; the golden list is of its authors' edition."""
    file = stored(files_of(demo_weights, "eva_clip"))
    original = {key: torch.empty(shape) for key, shape in key_list("pulid/eva_real.json").items()}
    converted = checkpoint_filter_fn(original, sdxl.vision_tower())
    assert differences(file, {f"visual.trunk.{key}": tuple(value.shape) for key, value in converted.items()}) == []
    assert types(file) == HALF


def test_the_face_parser(demo_weights: Path):
    """Two heads that only training needs are missing, and the golden list is without counters; nothing uses either."""
    file = stored(files_of(demo_weights, "face_parser"))
    published = key_list("pulid/bisenet_real.json")
    used = {key: shape for key, shape in published.items() if not key.startswith(("conv_out16.", "conv_out32."))}
    tensors = {key: tensor for key, tensor in file.items() if not key.endswith(COUNTER)}
    assert differences(tensors, used) == []
    assert types(tensors) == SINGLE


@pytest.mark.parametrize(("role", "channels"), [("ic_light_fc", 8), ("ic_light_fbc", 12)])
def test_the_offsets_of_ic_light(demo_weights: Path, role: str, channels: int):
    file = stored(files_of(demo_weights, role))
    published = UNET | {"conv_in.weight": (320, channels, 3, 3)}
    assert differences(file, without_missing_layers(file, published)) == []
    assert types(file) == HALF


def test_the_matting_network(demo_weights: Path):
    file = stored(files_of(demo_weights, "rmbg"))
    assert differences(file, key_list("iclight/unit/rmbg14_keys_fullsize.json")) == []
    assert types(file) == SINGLE | {"I64"}
    assert {key for key, tensor in file.items() if tensor.dtype == "I64"} == {
        key for key in file if key.endswith(COUNTER)
    }


def base_networks() -> dict[str, Shapes]:
    """Key lists of Stable Diffusion 1.5's three networks, by path in its folder."""
    text = {f"text_model.{key.removeprefix('text_model.')}": t for key, t in sd15.text_encoder().state_dict().items()}
    return {
        "unet/diffusion_pytorch_model.safetensors": UNET | {"conv_in.weight": (320, 4, 3, 3)},
        "vae/diffusion_pytorch_model.safetensors": shapes(sd15.vae().state_dict()),
        "text_encoder/model.safetensors": shapes(text),
    }


@pytest.mark.parametrize("name", base_networks())
def test_the_base_of_ic_light(demo_weights: Path, name: str):
    file = stored(files_of(demo_weights, "sd15") / name)
    assert differences(file, without_missing_layers(file, base_networks()[name])) == []
    assert types(file) == SINGLE


@pytest.mark.parametrize("role", ["sd15", "sdxl_config"])
def test_folders_hold_what_the_lock_names(demo_weights: Path, role: str):
    folder = files_of(demo_weights, role)
    for weight in (weight for weight in LOCK.weights if weight.role == role):
        assert [
            file.path for file in weight.files if not (folder / Path(file.path).relative_to(weight.path)).is_file()
        ] == []


def test_the_lock_has_the_sizes_that_follow_from_the_key_lists():
    """To the byte: one letter more in one name, or one value more in one tensor, would be another size."""
    rmbg = key_list("iclight/unit/rmbg14_keys_fullsize.json")
    mixed = {key: Stored("I64" if key.endswith(COUNTER) else "F32", shape) for key, shape in rmbg.items()}
    assert size_in_lock("rmbg-1.4", "") == file_size(mixed, HEAD)

    networks = {name: half(of) for name, of in base_networks().items()}
    positions = {"text_model.embeddings.position_ids": Stored("I64", (1, 77))}
    networks["text_encoder/model.safetensors"] |= positions
    for name, tensors in networks.items():
        assert size_in_lock("stable-diffusion-v1.5", name) == file_size(tensors, HEAD), name


def size_in_lock(name: str, ending: str) -> int | None:
    return next(file.size for file in LOCK.named(name).files if file.path.endswith(ending))
