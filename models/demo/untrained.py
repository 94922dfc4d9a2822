"""Random files in place of those of pulid-lightning that have not been trained yet: its portraits are noise."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch

from models.demo import sdxl
from models.demo.identity import projections
from models.demo.random_weights import random_state
from models.demo.trained_files import (
    FILES,
    PORTRAIT_ADAPTER,
    PORTRAIT_ARTISTIC,
    PORTRAIT_REALISTIC,
    PORTRAIT_TEXT,
    PORTRAIT_TEXT_G,
    PORTRAIT_TEXT_L,
    PORTRAIT_UNET,
    Trained,
    save_trained,
)

_SEED: Final = 15


def completed(trained: Trained, folder: Path) -> Trained:
    """`trained` if its lock names every file; else a copy in `folder`, with random ones of pulid-lightning."""
    if trained.pins().keys() >= set(FILES):
        return trained
    copy = trained.copied(folder)
    write_portrait_stand_ins(folder)
    copy.pin()
    return copy


def write_portrait_stand_ins(folder: Path) -> None:
    """Write random files of pulid-lightning's networks into `folder`, the same bytes on every call."""
    with torch.device("meta"):
        unet, text_l, text_g = (build().state_dict() for build in (sdxl.unet, sdxl.text_encoder_l, sdxl.text_encoder_g))
    texts = {PORTRAIT_TEXT_L + key: value for key, value in text_l.items()}
    texts |= {PORTRAIT_TEXT_G + key: value for key, value in text_g.items()}
    last = {key: value for key, value in unet.items() if key.startswith("conv_out.")}
    for number, (name, state) in enumerate(
        {
            PORTRAIT_UNET: unet,
            PORTRAIT_ARTISTIC: last,
            PORTRAIT_REALISTIC: last,
            PORTRAIT_TEXT: texts,
            PORTRAIT_ADAPTER: projections(),
        }.items()
    ):
        save_trained(folder / name, random_state(state, _SEED + number))
