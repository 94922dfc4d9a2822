"""Random files in place of trained ones: of the same networks, in the same form, pinned by a lock of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from models.demo import architecture
from models.demo.random_weights import random_state
from models.demo.trained_files import RMBG, SCALING_FACTOR, TEXT_ENCODER, TEXT_PREFIX, UNET, VAE, Trained, save_trained
from models.demo.untrained import write_portrait_stand_ins

_SEED: Final = 15


def write_stand_ins(folder: Path) -> Trained:
    """Write all files and their lock into `folder`, the same bytes on every call."""
    folder.mkdir(parents=True, exist_ok=True)
    text = {TEXT_PREFIX + key: value for key, value in architecture.text_encoder().state_dict().items()}
    save_trained(folder / VAE, random_state(architecture.vae().state_dict(), _SEED), **{SCALING_FACTOR: "0.8125"})
    save_trained(folder / UNET, random_state(architecture.unet(12).state_dict(), _SEED))
    save_trained(folder / TEXT_ENCODER, random_state(text, _SEED))
    save_trained(folder / RMBG, random_state(architecture.matting().state_dict(), _SEED))
    write_portrait_stand_ins(folder)
    stand_ins = Trained(folder, folder / "weights.lock")
    stand_ins.lock.write_text("weights = []\n\n[demo]\nfiles = [\n]\n")
    stand_ins.pin()
    return stand_ins
