"""Loading refuses files that do not make a whole network."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from models.demo.random_weights import random_state
from models.errors import WeightsError
from models.ic_light.networks import load_networks, load_unet, load_vae
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
