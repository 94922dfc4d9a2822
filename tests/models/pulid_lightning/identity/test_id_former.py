"""The identity encoder of version 1.1."""

from __future__ import annotations

import pytest
import torch

from models.demo.random_weights import random_state
from models.errors import WeightsError
from models.pulid_lightning.identity.id_former import IDFormer, IDFormerSizes, load_id_former

CPU = torch.device("cpu")
SIZES = IDFormerSizes(
    id_width=24, hidden=8, dim=12, context=6, head_dim=4, heads=2, queries=3, body_tokens=2, depth=10
)  # fmt: skip


@pytest.fixture(scope="module")
def former() -> IDFormer:
    built = IDFormer(SIZES)
    built.load_state_dict(random_state(built.state_dict(), 1))
    return built.requires_grad_(False)


@pytest.fixture
def id_cond() -> torch.Tensor:
    return torch.randn(2, 24, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def hidden() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(2, 5, 8, generator=generator) for _ in range(5)]


def test_sizes_come_from_the_weights(former: IDFormer, id_cond, hidden):
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


def test_no_face_still_has_tokens(former: IDFormer):
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
