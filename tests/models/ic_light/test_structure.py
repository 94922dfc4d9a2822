"""The networks at full size, without weights, against the key lists and the sizes of the published files."""

from __future__ import annotations

import json

import pytest
import torch

from bench.full_size import ic_light as full_size
from models.ic_light.networks import BACKGROUND_CHANNELS, FOREGROUND_CHANNELS, empty_unet
from models.ic_light.rmbg import Rmbg, widths_of
from tests.models.published import Shapes, file_size, half, key_list, shapes

UNET = key_list("iclight/unit/iclight_fc_keys_fullsize.json")
RMBG = key_list("iclight/unit/rmbg14_keys_fullsize.json")


@pytest.fixture(autouse=True)
def on_meta():
    """Networks are made without storage."""
    with torch.device("meta"):
        yield


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def with_inputs(channels: int) -> Shapes:
    return UNET | {"conv_in.weight": (320, channels, 3, 3)}


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (full_size.unet, 859_532_484),
        (full_size.vae, 83_653_863),
        (full_size.text_encoder, 123_060_480),
        (full_size.rmbg, 44_046_790),
    ],
)
def test_the_networks_have_the_published_number_of_parameters(build, count: int):
    assert parameters(build()) == count


def test_the_unet_has_the_published_keys():
    assert len(UNET) == 686
    assert shapes(full_size.unet().state_dict()) == UNET


@pytest.mark.parametrize("channels", [4, FOREGROUND_CHANNELS, BACKGROUND_CHANNELS])
def test_only_the_input_differs_between_the_base_and_both_offsets(channels: int):
    config = json.loads((full_size.SD15 / "unet" / "config.json").read_text())
    assert shapes(empty_unet(config, channels).state_dict()) == with_inputs(channels)


def test_the_published_offsets_have_these_keys_to_the_byte():
    assert file_size(half(with_inputs(FOREGROUND_CHANNELS))) == 1_719_148_312
    assert file_size(half(with_inputs(BACKGROUND_CHANNELS))) == 1_719_171_352


def test_the_matting_network_has_the_published_keys():
    assert len(RMBG) == 798
    assert shapes(full_size.rmbg().state_dict()) == RMBG


def test_the_matting_networks_widths_are_read_from_the_published_keys():
    state = {key: torch.empty(shape) for key, shape in RMBG.items()}
    assert widths_of(state) == full_size.RMBG
    Rmbg(widths_of(state)).load_state_dict(state)
