"""What is looked at: parsing, composite, EVA-CLIP."""

from __future__ import annotations

import pytest
import torch

from models.demo.random_weights import random_state
from models.errors import WeightsError
from models.pulid_lightning.identity.bisenet import load_bisenet
from models.pulid_lightning.identity.eva_clip import build_tower, load_eva_clip, normalised
from models.pulid_lightning.identity.extractor import BACKGROUND, composite, parse
from models.runtime.state_dicts import read_state_dict
from models.weights.installed import WeightSet

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tower_state() -> dict[str, torch.Tensor]:
    tower = build_tower(classes=6, width=16, depth=20, heads=2, mlp_width=42, patch=4, grid=3)
    state = tower.state_dict()
    return random_state({key: value for key, value in state.items() if not key.startswith("rope.")}, 1)


def original_layout(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The names of the official file, with the buffers and the text tower it also holds."""
    names = {
        "attn.q_proj.bias": "attn.q_bias",
        "attn.v_proj.bias": "attn.v_bias",
        "attn.norm": "attn.inner_attn_ln",
        "mlp.fc1_g": "mlp.w1",
        "mlp.fc1_x": "mlp.w2",
        "mlp.fc2": "mlp.w3",
        "mlp.norm": "mlp.ffn_ln",
    }
    renamed = {"visual.rope.freqs_cos": torch.ones(9, 8), "text.positional_embedding": torch.ones(1)}
    for key, value in state.items():
        for converted, original in names.items():
            key = key.replace(converted, original)
        renamed[f"visual.{key}"] = value
    return renamed


def test_a_background_becomes_white_and_a_face_grey():
    crop = torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1).expand(1, 3, 1, 19)
    picture = composite(crop, torch.arange(19).view(1, 1, 19))
    for label in range(19):
        expected = 1 if label in BACKGROUND else 0.299 + 0.587 / 2
        assert picture[0, :, 0, label].tolist() == pytest.approx([expected] * 3)


def test_hair_belongs_to_the_face():
    assert 17 not in BACKGROUND


def test_the_parser_labels_every_pixel(weights: WeightSet):
    parser = load_bisenet(read_state_dict(weights["face_parser"]), CPU)
    crop = torch.rand(1, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    labels = parse(parser, crop)
    assert labels.shape == (1, 96, 64)
    assert labels.min() >= 0
    assert labels.max() < 19


def test_heads_of_the_parser_that_only_training_needs_are_dropped(weights: WeightSet):
    state = read_state_dict(weights["face_parser"]) | {"conv_out16.conv_out.weight": torch.ones(1)}
    assert "conv_out16.conv_out.weight" not in load_bisenet(state, CPU).state_dict()


def test_a_parser_that_lacks_tensors_is_refused(weights: WeightSet):
    state = read_state_dict(weights["face_parser"])
    del state["ffm.conv2.weight"]
    with pytest.raises(WeightsError, match=r"ffm\.conv2\.weight"):
        load_bisenet(state, CPU)
    with pytest.raises(WeightsError, match=r"conv1\.weight"):
        load_bisenet({}, CPU)


def test_both_layouts_of_the_tower_are_one(tower_state):
    pixels = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(2))
    converted = {f"visual.trunk.{key}": value for key, value in tower_state.items()}
    features = [
        load_eva_clip(state, CPU, head_dim=8).encode(pixels) for state in (converted, original_layout(tower_state))
    ]
    assert torch.equal(features[0].embedding, features[1].embedding)
    assert [tuple(states.shape) for states in features[0].hidden] == [(2, 10, 16)] * 5
    assert not torch.allclose(features[0].hidden[0], features[0].hidden[1])


def test_pictures_are_scaled_and_normalised(tower_state):
    eva = load_eva_clip({f"visual.trunk.{key}": value for key, value in tower_state.items()}, CPU, head_dim=8)
    white = eva.preprocess(torch.ones(1, 3, 50, 50))
    assert white.shape == (1, 3, 12, 12)
    assert white[0, :, 0, 0].tolist() == pytest.approx([1.9303, 2.0749, 2.1459], abs=1e-3)
    assert eva.tokens == 10


def test_a_class_embedding_gets_unit_length():
    assert normalised(torch.tensor([[3.0, 4.0]])).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)]]


@pytest.mark.parametrize("name", ["broken.safetensors", "absent.safetensors"])
def test_unreadable_files_are_named(tmp_path, name: str):
    if name.startswith("broken"):
        (tmp_path / name).write_bytes(b"no tensors")
    with pytest.raises(WeightsError, match=name):
        read_state_dict(tmp_path / name)
