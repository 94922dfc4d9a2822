"""Checkpoints side by side and taking turns, and the choice between the two."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from models.errors import WeightsError
from models.pulid_lightning import checkpoints, single_file
from models.pulid_lightning.checkpoints import (
    WORKING_RESERVE,
    Checkpoints,
    OffloadedWeights,
    TensorPool,
    fits_in_memory,
    load_checkpoints,
    role_of,
)
from models.pulid_lightning.options import Options
from models.pulid_lightning.params import Params
from models.pulid_lightning.pipeline import PulidLightning, load
from models.runtime.fp8 import Float8Linear
from models.weights.installed import WeightSet

CPU = torch.device("cpu")
NAMES = Params.variants
GIB = 1024**3


@pytest.fixture(scope="module")
def taking_turns(weights: WeightSet) -> PulidLightning:
    return load(weights, CPU, Options(checkpoint_memory="host"))


@pytest.fixture(scope="module")
def shared(weights: WeightSet) -> Checkpoints:
    return load_checkpoints(weights, NAMES, CPU, "host")


def addresses(module: nn.Module) -> list[int]:
    return [tensor.data_ptr() for tensor in module.state_dict().values()]


@pytest.mark.slow
def test_pictures_are_the_same_to_the_bit_in_any_order(
    pipeline: PulidLightning, taking_turns: PulidLightning, portrait, png
):
    def draw(model: PulidLightning, name: str) -> np.ndarray:
        params = Params(face_image="x", seed=1, width=256, height=256, checkpoint_model=name)
        return model.run([model.prepare(params, {"face_image": png(portrait)})], lambda step, total: None)[0]

    expected = {name: draw(pipeline, name) for name in NAMES}
    order = ["default", "artistic", "realistic", "artistic", "default", "realistic", "realistic", "default"]
    assert set(itertools.pairwise(order)) >= set(itertools.permutations(NAMES, 2))
    for name in order:
        assert np.array_equal(draw(taking_turns, name), expected[name]), name


def test_there_is_one_unet_on_the_device_and_it_stays_where_it_is(shared: Checkpoints):
    (unet,) = shared.unets
    before = addresses(unet)
    for name in ("realistic", "default", "artistic"):
        assert shared.activate(name).unet is unet
        assert addresses(unet) == before


def test_the_unet_has_the_weights_of_the_one_that_was_taken(shared: Checkpoints, weights: WeightSet):
    for name in ("artistic", "default", "realistic"):
        stored = load_file(weights[role_of(name)])["model.diffusion_model.out.2.weight"]
        assert torch.equal(shared.activate(name).unet.conv_out.weight, stored.float())


def test_the_rest_of_each_checkpoint_is_its_own(weights: WeightSet, tmp_path: Path):
    state, key = load_file(weights["sdxl_checkpoint_artistic"]), "first_stage_model.decoder.conv_in.bias"
    save_file(state | {key: state[key] + 1}, tmp_path / "artistic.safetensors")
    paths = weights.paths | {"sdxl_checkpoint_artistic": tmp_path / "artistic.safetensors"}
    loaded = load_checkpoints(WeightSet(kind="demo", paths=paths), NAMES[:2], CPU, "host")
    first, second = (loaded.activate(name).vae.decoder.conv_in.bias for name in NAMES[:2])
    assert torch.allclose(second, first + 1, atol=1e-3)


def test_a_change_that_breaks_off_is_made_again(weights: WeightSet, monkeypatch: pytest.MonkeyPatch):
    kept = load_checkpoints(weights, NAMES[:2], CPU, "host")
    first = kept.activate("default").unet.conv_out.weight.clone()

    def break_off(self: OffloadedWeights, network: torch.nn.Module) -> None:
        network.conv_out.weight.zero_()
        raise KeyboardInterrupt

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(OffloadedWeights, "load_into", break_off)
        kept.activate("artistic")
    assert torch.equal(kept.activate("default").unet.conv_out.weight, first)


def test_one_checkpoint_has_nothing_to_take_turns_with(weights: WeightSet, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checkpoints, "OffloadedWeights", None)
    assert len(load_checkpoints(weights, ("realistic",), CPU, "host").unets) == 1


def test_there_is_room_if_enough_is_left_to_work_in():
    assert fits_in_memory(10 * GIB, 10 * GIB + WORKING_RESERVE)
    assert not fits_in_memory(10 * GIB, 10 * GIB + WORKING_RESERVE - 1)
    assert not fits_in_memory(0, 1)


@pytest.mark.slow
def test_memory_is_asked_for_only_where_it_decides(weights: WeightSet, monkeypatch: pytest.MonkeyPatch):
    asked: list[torch.device] = []
    monkeypatch.setattr(checkpoints, "_free_memory", asked.append)  # tells None, as for a CPU
    load_checkpoints(weights, NAMES[:2], CPU, "device")
    assert asked == []
    load_checkpoints(weights, NAMES[:2], CPU, "auto")
    assert asked == [CPU]


@pytest.mark.slow
def test_float8_unets_are_quantised_one_by_one(weights: WeightSet, monkeypatch: pytest.MonkeyPatch):
    events: list[str] = []
    for module, name in ((single_file.SingleFile, "unet"), (checkpoints, "quantise")):
        monkeypatch.setattr(module, name, noting(events, name, getattr(module, name)))
    loaded = load_checkpoints(weights, NAMES, CPU, "device", fp8=True)
    assert events == ["unet", "quantise"] * len(NAMES), "never are two in half precision at a time"
    for unet in loaded.unets:
        assert any(isinstance(layer, Float8Linear) for layer in unet.modules())


def noting(events: list[str], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which appends `name` to `events` at each call."""

    def call(*args: Any) -> Any:
        events.append(name)
        return function(*args)

    return call


@pytest.mark.parametrize(
    ("free", "unets"),
    [
        pytest.param(0, 1, marks=pytest.mark.slow),
        pytest.param(WORKING_RESERVE, 1, marks=pytest.mark.slow),
        (WORKING_RESERVE + GIB, 3),
        pytest.param(None, 3, marks=pytest.mark.slow),
    ],
)
def test_memory_decides_how_many_unets_there_are(
    weights: WeightSet, monkeypatch: pytest.MonkeyPatch, free: int | None, unets: int
):
    monkeypatch.setattr(checkpoints, "_free_memory", lambda device: free)
    assert len(load_checkpoints(weights, NAMES, CPU, "auto").unets) == unets
    assert len(load_checkpoints(weights, NAMES, CPU, "device").unets) == 3


@pytest.mark.parametrize("change", ["lacking", "wider"])
def test_a_unet_that_cannot_take_turns_is_refused(weights: WeightSet, tmp_path, change: str):
    state, key = load_file(weights["sdxl_checkpoint_artistic"]), "model.diffusion_model.out.2.bias"
    state[key] = torch.zeros(5)
    if change == "lacking":
        del state[key]
    save_file(state, tmp_path / "odd.safetensors")
    paths = weights.paths | {"sdxl_checkpoint_artistic": tmp_path / "odd.safetensors"}
    with pytest.raises(WeightsError, match=r"odd\.safetensors.*conv_out\.bias"):
        load_checkpoints(WeightSet("demo", paths), NAMES, CPU, "host")


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval().requires_grad_(False)


def test_equal_networks_share_all_of_it():
    pool, first, second = TensorPool(), network(1), network(1)
    expected = second(torch.ones(1, 3))
    pool.deduplicate("unet", first)
    pool.deduplicate("unet", second)
    assert addresses(first) == addresses(second)
    assert torch.equal(second(torch.ones(1, 3)), expected)


def test_only_what_is_equal_is_shared():
    pool, first, second = TensorPool(), network(1), network(1)
    second[0].bias += 1
    expected = second(torch.ones(1, 3))
    pool.deduplicate("unet", first)
    pool.deduplicate("unet", second)
    assert first[0].weight.data_ptr() == second[0].weight.data_ptr()
    assert first[0].bias.data_ptr() != second[0].bias.data_ptr()
    assert torch.equal(second(torch.ones(1, 3)), expected)


def test_a_third_may_share_with_either():
    pool, networks = TensorPool(), [network(1), network(2), network(2)]
    for each in networks:
        pool.deduplicate("unet", each)
    assert networks[2][0].weight.data_ptr() == networks[1][0].weight.data_ptr()
    assert networks[2][0].weight.data_ptr() != networks[0][0].weight.data_ptr()


def test_networks_of_another_kind_share_nothing():
    pool, first, second = TensorPool(), network(1), network(1)
    pool.deduplicate("clip_l", first)
    pool.deduplicate("clip_g", second)
    assert not set(addresses(first)) & set(addresses(second))
