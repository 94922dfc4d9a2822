"""Random files in place of trained ones: of the same networks, in the same form, pinned by a lock of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch

from models.demo import architecture, sdxl
from models.demo.identity import projections
from models.demo.random_weights import random_state
from models.demo.trained_files import (
    PORTRAIT_ADAPTER,
    PORTRAIT_ARTISTIC,
    PORTRAIT_REALISTIC,
    PORTRAIT_TEXT,
    PORTRAIT_TEXT_G,
    PORTRAIT_TEXT_L,
    PORTRAIT_UNET,
    RMBG,
    SCALING_FACTOR,
    TEXT_ENCODER,
    TEXT_PREFIX,
    UNET,
    VAE,
    Trained,
    save_trained,
)

_SEED: Final = 15


def write_stand_ins(folder: Path) -> Trained:
    """Write all files and their lock into `folder`, the same bytes on every call."""
    folder.mkdir(parents=True, exist_ok=True)
    text = {TEXT_PREFIX + key: value for key, value in architecture.text_encoder().state_dict().items()}
    save_trained(folder / VAE, random_state(architecture.vae().state_dict(), _SEED), **{SCALING_FACTOR: "0.8125"})
    save_trained(folder / UNET, random_state(architecture.unet(12).state_dict(), _SEED))
    save_trained(folder / TEXT_ENCODER, random_state(text, _SEED))
    save_trained(folder / RMBG, random_state(architecture.matting().state_dict(), _SEED))
    _write_portrait_files(folder)
    stand_ins = Trained(folder, folder / "weights.lock")
    stand_ins.lock.write_text("weights = []\n\n[demo]\nfiles = [\n]\n")
    stand_ins.pin()
    return stand_ins


def _write_portrait_files(folder: Path) -> None:
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
