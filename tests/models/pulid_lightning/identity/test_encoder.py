"""The adapter file and the identity encoder."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from models.demo.random_weights import random_state
from models.errors import WeightsError
from models.pulid_lightning.adapter import parse_adapter, place_projections, read_adapter
from models.pulid_lightning.identity.encoder import (
    IDEncoder,
    IDFormer,
    IDFormerSizes,
    id_condition,
    load_id_encoder,
    load_id_former,
)
from models.weights.installed import WeightSet

CPU = torch.device("cpu")
SIZES = IDFormerSizes(
    id_width=24, hidden=8, dim=12, context=6, head_dim=4, heads=2, queries=3, body_tokens=2, depth=10
)  # fmt: skip


@pytest.fixture(scope="module")
def encoder() -> IDEncoder:
    built = IDEncoder(id_width=24, body=(10, 12), hidden=8, context=6)
    built.load_state_dict(random_state(built.state_dict(), 1))
    return built.requires_grad_(False)


@pytest.fixture
def hidden() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(2, 5, 8, generator=generator) for _ in range(5)]


def layers(key: str, value: str) -> dict[str, torch.Tensor]:
    return {key: torch.ones(4, 6), value: torch.zeros(4, 6)}


def test_sizes_come_from_the_weights(encoder: IDEncoder, hidden):
    loaded = load_id_encoder(encoder.state_dict(), CPU)
    id_cond = torch.randn(2, 24, generator=torch.Generator().manual_seed(3))
    tokens = loaded(id_cond, hidden)
    assert tokens.shape == (2, 10, 6)
    assert torch.equal(tokens, encoder(id_cond, hidden))


def test_the_first_five_tokens_are_the_body(encoder: IDEncoder, hidden):
    id_cond = torch.randn(2, 24, generator=torch.Generator().manual_seed(3))
    first, second = encoder(id_cond, hidden), encoder(id_cond, [states + 1 for states in hidden])
    assert torch.equal(first[:, :5], second[:, :5])
    assert not torch.isclose(first[:, 5:], second[:, 5:]).all()


def test_the_order_of_patches_does_not_matter_but_the_class_token_does(encoder: IDEncoder, hidden):
    id_cond = torch.zeros(2, 24)
    shuffled = [states[:, [0, 4, 2, 1, 3]] for states in hidden]
    rolled = [states[:, [1, 0, 2, 3, 4]] for states in hidden]
    tokens = encoder(id_cond, hidden)
    assert torch.allclose(tokens, encoder(id_cond, shuffled), atol=1e-6)
    assert not torch.allclose(tokens, encoder(id_cond, rolled), atol=1e-2)


def test_no_face_still_has_tokens(encoder: IDEncoder):
    tokens = encoder(*encoder.zeros(tokens=5, device=CPU))
    assert tokens.shape == (1, 10, 6)
    assert tokens.abs().max() > 0.01


def test_the_condition_is_arcface_then_clip():
    assert id_condition(torch.ones(1, 3), torch.zeros(1, 2)).tolist() == [[1, 1, 1, 0, 0]]


@pytest.mark.parametrize(
    ("prefix", "key", "value"),
    [
        ("image_proj.", "ip_adapter.3.to_k_ip.weight", "ip_adapter.3.to_v_ip.weight"),
        ("id_adapter.", "id_adapter_attn_layers.3.id_to_k.weight", "id_adapter_attn_layers.3.id_to_v.weight"),
    ],
)
def test_both_layouts_are_read(encoder: IDEncoder, tmp_path, prefix: str, key: str, value: str):
    state = {prefix + name: tensor for name, tensor in encoder.state_dict().items()} | layers(key, value)
    save_file(state, tmp_path / "adapter.safetensors")
    adapter = read_adapter(tmp_path / "adapter.safetensors")
    assert adapter.encoder.keys() == encoder.state_dict().keys()
    assert adapter.projections.keys() == {3}
    projections = place_projections(adapter.projections, torch.device("cpu"), torch.float32)
    assert projections[3].key.sum() == 24
    assert projections[3].value.sum() == 0


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"image_proj.body.0.weight": torch.ones(1, 1)},
        layers("ip_adapter.1.to_k_ip.weight", "ip_adapter.1.to_v_ip.weight"),
        {"image_proj.body.0.weight": torch.ones(1, 1), "ip_adapter.1.to_k_ip.weight": torch.ones(1, 1)},
    ],
    ids=["empty", "no layers", "no encoder", "no values"],
)
def test_other_files_are_refused(state):
    with pytest.raises(WeightsError, match=r"PuLID adapter|key and value"):
        parse_adapter(state)


def test_pickles_are_not_read(tmp_path):
    torch.save({"id_adapter.body.0.weight": torch.ones(1)}, tmp_path / "adapter.bin")
    with pytest.raises(WeightsError, match=r"adapter\.bin"):
        read_adapter(tmp_path / "adapter.bin")


def test_an_encoder_that_lacks_tensors_is_refused(encoder: IDEncoder):
    state = dict(encoder.state_dict())
    del state["mapping_patch_4.6.bias"]
    with pytest.raises(WeightsError, match=r"mapping_patch_4\.6\.bias"):
        load_id_encoder(state, CPU)


def test_the_demo_adapter_has_the_layers_of_the_demo_unet(weights: WeightSet):
    assert sorted(read_adapter(weights["pulid_adapter"]).projections) == [1, 3, 5]


@pytest.fixture(scope="module")
def former() -> IDFormer:
    built = IDFormer(SIZES)
    built.load_state_dict(random_state(built.state_dict(), 1))
    return built.requires_grad_(False)


@pytest.fixture
def id_cond() -> torch.Tensor:
    return torch.randn(2, 24, generator=torch.Generator().manual_seed(3))


def test_sizes_of_version_1_1_come_from_the_weights(former: IDFormer, id_cond, hidden):
    loaded = load_id_former(former.state_dict(), CPU, head_dim=4)
    tokens = loaded(id_cond, hidden)
    assert tokens.shape == (2, 3, 6)
    assert torch.equal(tokens, former(id_cond, hidden))


def test_every_tap_and_the_condition_count(former: IDFormer, id_cond, hidden):
    usual = former(id_cond, hidden)
    assert not torch.allclose(former(id_cond + 1, hidden), usual, atol=1e-3)
    for tap in range(5):
        changed = [states + (position == tap) for position, states in enumerate(hidden)]
        assert not torch.allclose(former(id_cond, changed), usual, atol=1e-4)


def test_the_order_of_hidden_tokens_does_not_matter(former: IDFormer, id_cond, hidden):
    turned = [states.flip(1) for states in hidden]
    assert torch.allclose(former(id_cond, turned), former(id_cond, hidden), atol=1e-5)


def test_several_pictures_of_one_face_give_as_many_tokens(former: IDFormer, id_cond, hidden):
    tokens = former(id_cond[None], [states.flatten(0, 1)[None] for states in hidden])
    assert tokens.shape == (1, 3, 6)
    assert not torch.allclose(tokens, former(id_cond[:1], [states[:1] for states in hidden]), atol=1e-3)


def test_no_face_still_has_tokens_of_version_1_1(former: IDFormer):
    tokens = former(*former.zeros(tokens=5, device=CPU))
    assert tokens.shape == (1, 3, 6)
    assert tokens.abs().max() > 0.01


def test_weights_that_lack_tensors_are_refused(former: IDFormer):
    state = former.state_dict()
    del state["layers.9.0.to_q.weight"]
    with pytest.raises(WeightsError, match=r"layers\.9\.0\.to_q"):
        load_id_former(state, CPU, head_dim=4)
    with pytest.raises(WeightsError, match="proj_out"):
        load_id_former({"latents": torch.ones(1)}, CPU)
