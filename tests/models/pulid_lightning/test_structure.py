"""The networks at full size, without weights, against the key lists and the sizes of the published files."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from torch import Tensor

from bench.full_size import pulid_lightning as full_size
from models.demo import sdxl
from models.demo.original_keys import clip_g_state, clip_l_key, unet_state, vae_state
from models.errors import WeightsError
from models.pulid_lightning import single_file
from models.pulid_lightning.adapter import parse_adapter
from models.pulid_lightning.attention import layer_numbers
from models.pulid_lightning.identity.bisenet import load_bisenet
from models.pulid_lightning.identity.encoder import load_id_encoder, load_id_former
from models.pulid_lightning.identity.eva_clip import EvaClip, load_eva_clip
from models.pulid_lightning.single_file import SingleFile
from models.runtime.unet import cross_attentions
from models.weights.folder import Folder
from models.weights.installed import WeightSet
from tests.models.published import GOLDEN, Shapes, Stored, file_size, half, key_list, shapes

META = torch.device("meta")
LAYERS = json.loads((GOLDEN / "pulid/layer_index_map.json").read_text())
BISENET = key_list("pulid/bisenet_real.json")
EVA = key_list("pulid/eva_real.json")
ID_ENCODER = key_list("pulid/id_encoder_v1_real.json")
COMFYUI = ("ip_adapter", ("to_k_ip", "to_v_ip"))
OFFICIAL = ("id_adapter_attn_layers", ("id_to_k", "id_to_v"))
"""How the two kinds of adapter files name the layers, and the weights of one."""
ID_FORMER = key_list("pulid/id_former_v11_real.json")


@pytest.fixture(autouse=True)
def on_meta():
    """Networks are made without storage."""
    with META:
        yield


def empty(of: Shapes) -> dict[str, Tensor]:
    return {key: torch.empty(shape) for key, shape in of.items()}


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def layers(prefix: str, names: tuple[str, str]) -> Shapes:
    keys = ((row, f"{prefix}.{row['index']}.{name}.weight") for row in LAYERS for name in names)
    return {key: (row["inner_dim"], full_size.CONTEXT) for row, key in keys}


def adapter_file(encoder: str, of: Shapes, prefix: str, names: tuple[str, str]) -> Shapes:
    return {f"{encoder}.{key}": shape for key, shape in of.items()} | layers(prefix, names)


def original_checkpoint() -> Shapes:
    """Keys and shapes of an SDXL checkpoint in one file, from the networks that it is loaded into."""
    clip_l = {clip_l_key(key): tensor for key, tensor in full_size.clip_l().state_dict().items()}
    unet = unet_state(full_size.unet().state_dict())
    vae, clip_g = vae_state(full_size.vae().state_dict()), clip_g_state(full_size.clip_g().state_dict())
    return shapes(unet | vae | clip_l | clip_g)


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (full_size.unet, 2_567_463_684),
        (full_size.vae, 83_653_863),
        (full_size.clip_l, 123_060_480),
        (full_size.clip_g, 694_659_840),
        (full_size.id_encoder, 54_886_400),
    ],
)
def test_the_networks_have_the_published_number_of_parameters(build, count: int):
    assert parameters(build()) == count


def test_the_adapter_meets_the_cross_attentions_of_the_unet():
    unet = full_size.unet()
    names = list(unet.attn_processors)
    attentions = {index: unet.get_submodule(name.removesuffix(".processor")) for index, name in enumerate(names)}
    found = [
        {"index": index, "diffusers": names[index], "inner_dim": module.inner_dim, "heads": module.heads}
        for index, module in attentions.items()
        if module.is_cross_attention
    ]
    assert found == [{key: value for key, value in row.items() if key != "comfy_block"} for row in LAYERS]
    projections = full_size.projections(unet)
    assert len(projections) == 70
    numbers = dict(zip(cross_attentions(unet), layer_numbers(unet, projections), strict=True))
    assert [numbers[attentions[row["index"]]] for row in LAYERS] == [row["index"] for row in LAYERS]


@pytest.mark.parametrize(
    "state",
    [
        adapter_file("image_proj", ID_ENCODER, *COMFYUI),
        adapter_file("id_adapter", ID_ENCODER, *OFFICIAL),
    ],
    ids=["ComfyUI", "official"],
)
def test_the_adapter_of_version_1_is_read_in_both_layouts(state: Shapes):
    adapter = parse_adapter(empty(state))
    assert shapes(load_id_encoder(adapter.encoder, META).state_dict()) == ID_ENCODER
    expected = full_size.projections(full_size.unet())
    assert adapter.projections.keys() == expected.keys()
    for index, projection in adapter.projections.items():
        assert projection.key.shape == projection.value.shape == expected[index].key.shape


def test_the_adapter_of_version_1_1_is_read():
    adapter = parse_adapter(empty(adapter_file("id_adapter", ID_FORMER, *OFFICIAL)))
    former = load_id_former(adapter.encoder, META)
    assert shapes(former.state_dict()) == ID_FORMER
    assert parameters(former) == 151_398_400
    assert sorted(adapter.projections) == [row["index"] for row in LAYERS]


def test_the_published_adapters_have_these_keys_to_the_byte():
    """The official pickle of version 1 has no size that depends on its keys alone."""
    version_1 = adapter_file("image_proj", ID_ENCODER, *COMFYUI)
    version_1_1 = adapter_file("id_adapter", ID_FORMER, *OFFICIAL)
    assert file_size(half(version_1)) == 791_372_856
    assert file_size(half(version_1_1)) == 984_405_232


def test_the_published_checkpoints_have_these_keys_to_the_byte():
    """SDXL-Lightning 4 steps, and Juggernaut XL Lightning, whose VAE is in single precision."""
    networks = half(original_checkpoint())
    assert len(networks) == 2513
    positions, scale = (
        "conditioner.embedders.0.transformer.text_model.embeddings.position_ids",
        "conditioner.embedders.1.model.logit_scale",
    )
    lightning = networks | {positions: Stored("F16", (1, 77)), scale: Stored("F16", ())}
    assert file_size(lightning) == 6_938_040_682
    vae = {key: Stored("F32", value.shape) for key, value in networks.items() if key.startswith("first_stage_model.")}
    juggernaut = networks | vae | {positions: Stored("I64", (1, 77))}
    assert file_size(juggernaut, metadata={}) == 7_105_348_284


def test_original_keys_convert_to_those_of_the_networks():
    """The conversion is the loader's own, and not the one that made the keys."""
    original = empty(original_checkpoint())
    unet, vae = full_size.unet(), full_size.vae()
    converted = convert_ldm_unet_checkpoint(dict(original), dict(unet.config))
    assert shapes(converted) == shapes(unet.state_dict())
    converted = convert_ldm_vae_checkpoint(dict(original), dict(vae.config))
    assert shapes(converted) == shapes(vae.state_dict())


def test_the_identity_encoder_has_the_published_keys():
    assert shapes(full_size.id_encoder().state_dict()) == ID_ENCODER


def test_the_face_parser_has_the_published_keys_without_the_heads_of_training():
    def without_counters(state: Shapes) -> Shapes:
        return {key: shape for key, shape in state.items() if not key.endswith("num_batches_tracked")}

    used = {key: shape for key, shape in BISENET.items() if not key.startswith(("conv_out16.", "conv_out32."))}
    assert without_counters(shapes(full_size.face_parser().state_dict())) == used
    assert without_counters(shapes(load_bisenet(empty(BISENET), META).state_dict())) == used


def test_the_vision_tower_loads_from_the_published_keys_in_both_layouts():
    tower = full_size.vision_tower()
    converted = {f"visual.trunk.{key}": tensor for key, tensor in tower.state_dict().items()}
    assert len(EVA) == len(converted) == 512
    assert sum(torch.Size(shape).numel() for shape in EVA.values()) == parameters(tower)
    for state in (empty(EVA), converted):
        assert load_eva_clip(state, META).tokens == EvaClip(tower).tokens == 577


def test_a_tensor_of_another_shape_is_refused():
    with pytest.raises(WeightsError, match=r"blocks\.23\.attn\.proj\.bias"):
        load_eva_clip(empty(EVA | {"visual.blocks.23.attn.proj.bias": (1023,)}), META)


def test_sizes_are_sdxls_own_where_the_weights_name_none(weights: WeightSet, tmp_path, monkeypatch):
    checkpoint, cpu = weights["sdxl_checkpoint_default"], torch.device("cpu")
    with cpu:
        with pytest.raises(WeightsError, match=r"default\.safetensors"):
            SingleFile(checkpoint, Folder.as_found(tmp_path)).unet(cpu, torch.float32)
        monkeypatch.setattr(single_file, "SDXL", weights["sdxl_config"])
        assert parameters(SingleFile(checkpoint, Folder.as_found(tmp_path)).unet(cpu, torch.float32)) == parameters(
            sdxl.unet()
        )
