"""The painter: whatever the ID tokens hold is painted, in its place, at any size, before anything is trained."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.demo import sdxl
from models.demo.face_code import CHROMA, LUMA, tokens
from models.pulid_lightning.adapter import Projection
from models.pulid_lightning.attention import METHODS, FaceStyle, attend_with_identity, identity_contexts
from models.pulid_lightning.identity.encoder import Identity
from models.pulid_lightning.sdxl import time_ids
from models.runtime.unet import added_embedding, cross_attentions, evaluate, text_contexts, time_shifts
from training.networks import positions
from training.networks.frozen_channels import Reserved
from training.networks.positions import PositionNetwork, ramps
from training.portraits.painter import BOX, PAINTED, PITCH, TEXT_CONSTANT, Adapter, init_painter
from training.stages.loop import Schedule

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> PositionNetwork:
    schedule = Schedule(1500, 4e-3, final_share=0.002, ema_decay=0.99)
    return positions.train_positions(schedule, tmp_path_factory.mktemp("positions"), lambda _line: None)


@pytest.fixture(scope="module")
def painter(network: PositionNetwork) -> tuple[nn.Module, Adapter, Reserved]:
    torch.manual_seed(0)
    unet = sdxl.unet()
    adapter = Adapter(cross_attentions(unet))
    return unet, adapter, init_painter(unet, adapter, network)


def picture(seed: int) -> tuple[Tensor, Tensor]:
    """Smooth random grids of brightness and colour differences, in -0.5..0.5."""
    rng = np.random.default_rng(seed)
    luma = cv2.resize(rng.uniform(-0.5, 0.5, (8, 7)), LUMA[::-1], interpolation=cv2.INTER_CUBIC)
    chroma = [cv2.resize(rng.uniform(-0.5, 0.5, (4, 5)), CHROMA[::-1]) for _ in range(2)]
    return torch.tensor(luma).float(), torch.tensor(np.stack(chroma)).float()


@torch.inference_mode()
def paint(
    painter: tuple[nn.Module, Adapter, Reserved], seed: int, rows: int, columns: int, style: FaceStyle
) -> NDArray[np.float32]:
    """What the painter's channels hold for a picture, [4, rows, columns]; latents have twice as many."""
    unet, adapter, _ = painter
    luma, chroma = (grid[None] for grid in picture(seed))
    text = torch.randn(1, 77, sdxl.CONTEXT_WIDTH)
    text[..., TEXT_CONSTANT] = -1
    text[:, 0, TEXT_CONSTANT] = 1
    identity = Identity(cond=tokens(luma, chroma), uncond=tokens(luma, chroma)[:0])
    projections = [Projection(key, value) for key, value in zip(adapter.to_k, adapter.to_v, strict=True)]
    heads = [layer.heads for layer in cross_attentions(unet)]
    contexts = identity_contexts(text_contexts(unet, text), [identity], projections, heads, METHODS[style])
    pooled = torch.randn(1, sdxl.text_encoder_g().config.projection_dim)
    added = added_embedding(unet, pooled, time_ids((16 * columns, 16 * rows), 1, text.device))
    shift = time_shifts(unet, torch.tensor([500]), added)[0]
    found: list[Tensor] = []
    # The input of the level's upsampler: what both transformers have left behind.
    hook = unet.up_blocks[3].upsamplers[0].conv.register_forward_pre_hook(lambda _, given: found.append(given[0]))
    evaluate(unet, torch.randn(1, 4, 2 * rows, 2 * columns), shift, contexts, attend_with_identity)
    hook.remove()
    return found[0][0, PAINTED, ::2, ::2].numpy()


def expected(grid: Tensor, rows: int, columns: int, pitch: float) -> NDArray[np.float32]:
    """A grid sampled where the picture's points lie in it; 0 outside."""
    x, y = ramps(rows, columns)[0, :2].numpy()
    places = [((at - edge) / pitch - 0.5).astype(np.float32) for at, edge in ((x, BOX[0]), (y, BOX[1]))]
    return cv2.remap(grid.numpy(), *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)


def likeness(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def test_positions_are_the_same_in_grids_of_any_shape(network: PositionNetwork):
    with torch.inference_mode():
        for shape in ((2, 2), (4, 4), (8, 8), (4, 6), (9, 5)):
            assert (network(*shape) - ramps(*shape)).abs().mean() < 0.03, shape


@pytest.mark.parametrize(("rows", "columns"), [(32, 32), (64, 64), (48, 32), (40, 56)])
def test_the_grids_are_painted_into_the_box(painter: tuple[nn.Module, Adapter, Reserved], rows: int, columns: int):
    painted = paint(painter, 1, rows, columns, "high-fidelity")
    luma, chroma = picture(1)
    assert likeness(painted[0], expected(luma, rows, columns, PITCH)) > 0.95
    for channel, grid in zip(painted[1:3], chroma, strict=True):
        tall = cv2.resize(grid.numpy(), LUMA[::-1], interpolation=cv2.INTER_LINEAR)
        assert likeness(channel, expected(torch.tensor(tall), rows, columns, PITCH)) > 0.9


def test_another_picture_is_painted_otherwise(painter: tuple[nn.Module, Adapter, Reserved]):
    painted = paint(painter, 2, 32, 32, "high-fidelity")
    own, other = (expected(picture(seed)[0], 32, 32, PITCH) for seed in (2, 3))
    assert likeness(painted[0], own) > 0.95 > 0.5 > likeness(painted[0], other)


def test_stylized_paints_half_as_strong(painter: tuple[nn.Module, Adapter, Reserved]):
    strong, weak = (paint(painter, 1, 32, 32, style)[0] for style in ("high-fidelity", "stylized"))
    assert likeness(strong, weak) > 0.99
    assert 0.4 < float((strong * weak).sum() / (strong * strong).sum()) < 0.6


def test_training_leaves_the_frozen_parts_alone(painter: tuple[nn.Module, Adapter, Reserved]):
    unet, _, held = painter
    held.mask_gradients()
    layer = unet.up_blocks[3].resnets[0].conv1
    before = layer.weight.detach().clone()
    optimiser = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.0)
    (layer.weight.square().sum() + layer.weight.sum()).backward()
    optimiser.step()
    held.clip_row_norms(unet, excluded=unet.conv_out)
    same = (layer.weight == before).flatten(1).all(1)
    assert same[:20].all()
    assert not same[20:].any()
    assert (layer.weight[20:].flatten(1).norm(dim=1) <= 1 + 1e-5).all()
