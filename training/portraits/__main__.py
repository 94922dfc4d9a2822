"""Trains the demo weights of pulid-lightning: `python -m training.portraits`, under two hours on two CPU cores.

The autoencoder is ic-light's, which has to be there. Each stage resumes from its last checkpoint after an interruption.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from torch import Tensor

from models.demo import architecture, sdxl
from models.demo.trained_files import (
    PORTRAIT_ADAPTER,
    PORTRAIT_ARTISTIC,
    PORTRAIT_REALISTIC,
    PORTRAIT_TEXT,
    PORTRAIT_TEXT_G,
    PORTRAIT_TEXT_L,
    PORTRAIT_UNET,
    SHIPPED,
    VAE,
    Trained,
    save_trained,
)
from models.pulid_lightning.attention import layer_numbers
from models.pulid_lightning.sdxl import load_tokenizers
from models.weights.folder import Folder
from training.networks import positions
from training.portraits.dataset import BUCKETS, Bucket, encode_portraits
from training.portraits.denoiser import Denoiser, pretrain, train_portraits, tune
from training.portraits.text import TextEncoders, train_text_encoders
from training.stages.loop import Logger, Schedule
from training.stages.progress import file_logger, timed

RESULTS: Final = Path(__file__).parents[1] / "results"
_LOG_FILE: Final = "portraits.log"


@dataclass(frozen=True)
class Recipe:
    """Length of every stage, and the dataset's sizes."""

    positions: Schedule
    text: Schedule
    buckets: tuple[Bucket, ...]
    mean: Schedule
    denoiser: Schedule
    hands: Schedule


RECIPE: Final = Recipe(
    positions=positions.SCHEDULE,
    text=Schedule(1500, 2e-3),
    buckets=BUCKETS,
    mean=Schedule(4000, 1e-3, warm_up=150, ema_decay=0.998),
    denoiser=Schedule(2300, 6e-4, warm_up=150, ema_decay=0.998),
    hands=Schedule(250, 1e-3, ema_decay=0.98),
)
SMOKE: Final = Recipe(
    positions=Schedule(3, 4e-3),
    text=Schedule(3, 2e-3),
    buckets=(Bucket(4, 2, 128, 128),),
    mean=Schedule(3, 1e-3, ema_decay=0.99),
    denoiser=Schedule(3, 1e-3, ema_decay=0.99),
    hands=Schedule(2, 1e-3, ema_decay=0.98),
)
"""A few steps of every stage: a smoke test, whose weights are useless."""


def run(recipe: Recipe, work: Path, trained: Trained, log: Logger) -> None:
    """Train all networks into the folder of `trained`, whose autoencoder is read; checkpoints go to `work`."""
    work.mkdir(parents=True, exist_ok=True)
    log(f"torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads")
    folder = trained.folder
    network = timed("positions", log, lambda: positions.train_positions(recipe.positions, work, log))
    encoders = timed("text", log, lambda: _train_text(recipe, trained, work, log))
    vae = architecture.vae(trained.scaling_factor())
    vae.load_state_dict({key: value.float() for key, value in load_file(trained.verified(VAE)).items()})
    dataset = timed("scenes", log, lambda: encode_portraits(vae, recipe.buckets, work / "scenes", log))
    torch.manual_seed(4)
    denoiser = Denoiser(sdxl.unet(), network, encoders, trained.scaling_factor())
    timed("mean pictures", log, lambda: pretrain(denoiser, dataset, recipe.mean, work, log))
    timed("denoiser", log, lambda: train_portraits(denoiser, dataset, recipe.denoiser, work, log))
    save_trained(folder / PORTRAIT_UNET, denoiser.unet.state_dict())
    for name, file in (("artistic", PORTRAIT_ARTISTIC), ("realistic", PORTRAIT_REALISTIC)):
        save_trained(folder / file, timed(name, log, partial(tune, name, denoiser, dataset, recipe.hands, work, log)))
    save_trained(folder / PORTRAIT_ADAPTER, _projections(denoiser))
    texts = ((PORTRAIT_TEXT_L, encoders.l), (PORTRAIT_TEXT_G, encoders.g))
    save_trained(
        folder / PORTRAIT_TEXT,
        {prefix + key: value for prefix, encoder in texts for key, value in encoder.state_dict().items()},
    )


def _train_text(recipe: Recipe, trained: Trained, work: Path, log: Logger) -> TextEncoders:
    config = work / "config"
    shutil.rmtree(config, ignore_errors=True)
    sdxl.write_config(config, trained)
    torch.manual_seed(3)
    encoders = TextEncoders(load_tokenizers(Folder.as_found(config)))
    train_text_encoders(encoders, recipe.text, work, log)
    return encoders


def _projections(denoiser: Denoiser) -> dict[str, Tensor]:
    numbers: Any = dict.fromkeys(sdxl.cross_attention_widths())
    return {
        f"ip_adapter.{number}.{part}_ip.weight": weight.detach()
        for place, number in enumerate(layer_numbers(denoiser.unet, numbers))
        for part, weight in (("to_k", denoiser.adapter.to_k[place]), ("to_v", denoiser.adapter.to_v[place]))
    }


def main(arguments: list[str]) -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m training.portraits", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("var/portraits"), help="folder of the checkpoints")
    parser.add_argument("--out", type=Path, help="folder for weights and log, instead of the shipped ones")
    parser.add_argument("--smoke", action="store_true", help="smoke test: a few steps of every stage; needs --out")
    given = parser.parse_args(arguments)
    if given.smoke and not given.out:
        parser.error("--smoke needs --out: its weights are useless")
    trained = SHIPPED.copied(given.out) if given.out else SHIPPED
    log_file = given.work / _LOG_FILE
    run(SMOKE if given.smoke else RECIPE, given.work, trained, file_logger(log_file))
    trained.pin()
    shutil.copyfile(log_file, (given.out or RESULTS) / _LOG_FILE)


if __name__ == "__main__":
    main(sys.argv[1:])
