"""Trains ic-light's demo weights: `python -m training`, about two hours on two CPU cores.

Each network is saved when its stages are done; an interrupted run resumes from its last checkpoint. Finally the files
are pinned in the lock, built into demo weights and evaluated.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from transformers import CLIPTokenizer

from models.demo import architecture
from models.demo.build import build
from models.demo.tokenizer import write_tokenizer
from models.demo.trained_files import (
    RMBG,
    SCALING_FACTOR,
    SHIPPED,
    TEXT_ENCODER,
    TEXT_PREFIX,
    UNET,
    VAE,
    Trained,
    save_trained,
)
from training.data.batches import alphas_cumprod
from training.data.dataset import BUCKETS, Bucket, encode_dataset
from training.evaluation.evaluate import FULL, QUICK, Plan, measure
from training.evaluation.goals import FIGURES_FILE, RESULTS, table, write_figures
from training.networks.colour_path import init_colour_path
from training.networks.identity_init import init_identity
from training.networks.text_bypass import init_text_bypass
from training.stages import matting
from training.stages.autoencoder import train_autoencoder
from training.stages.denoiser import Schedules, train_denoiser
from training.stages.loop import Logger, Schedule
from training.stages.progress import file_logger, timed

_LOG_FILE: Final = "training.log"


@dataclass(frozen=True)
class Recipe:
    """Length of every stage and size of the dataset; `crop` is the side in px of the autoencoder's training crops."""

    matting: Schedule
    autoencoder: Schedule
    decoder: Schedule
    crop: int
    buckets: tuple[Bucket, ...]
    scenes_each: int
    denoiser: Schedules
    figures: Plan


RECIPE: Final = Recipe(
    matting=matting.SCHEDULE,
    autoencoder=Schedule(1200, 7e-4, final_share=0.3),
    decoder=Schedule(2500, 7e-4, ema_decay=0.998),
    crop=128,
    buckets=BUCKETS,
    scenes_each=4,
    denoiser=Schedules(
        text=Schedule(600, 2e-3),
        first=Schedule(13_000, 1e-3, warm_up=200, ema_decay=0.999),
        last=Schedule(2_500, 8e-4, ema_decay=0.998),
    ),
    figures=FULL,
)
SMOKE: Final = Recipe(
    matting=Schedule(2, 4e-3),
    autoencoder=Schedule(3, 7e-4),
    decoder=Schedule(3, 7e-4, ema_decay=0.998),
    crop=64,
    buckets=(Bucket(6, 2, 192, 192),),
    scenes_each=3,
    denoiser=Schedules(Schedule(2, 2e-3), Schedule(3, 1.5e-3, ema_decay=0.999), Schedule(2, 1e-3, ema_decay=0.998)),
    figures=QUICK,
)
"""A few steps of every stage: a smoke test, whose weights are useless."""


def run(recipe: Recipe, work: Path, trained: Trained, results: Path, device: torch.device, log: Logger) -> None:
    """Train all networks into the folder of `trained`, pin and evaluate them.

    Checkpoints go to `work`, the figures to `results`.
    """
    work.mkdir(parents=True, exist_ok=True)
    log(f"torch {torch.__version__} on {device}, {platform.machine()}, {torch.get_num_threads()} threads")
    vae = timed("autoencoder", log, lambda: _train_vae(recipe, work, trained.folder / VAE, device, log))
    timed("denoiser", log, lambda: _train_unet(recipe, vae, work, trained.folder, log))
    timed("matting", log, lambda: _train_matting(recipe, work, trained.folder / RMBG, device, log))
    trained.pin()
    timed("figures", log, lambda: _measure(recipe, work, trained, results, log))


def _train_matting(recipe: Recipe, work: Path, file: Path, device: torch.device, log: Logger) -> None:
    if not (work / file.name).is_file():
        matting.train_matting(work / file.name, work, log, recipe.matting, device)
    shutil.copyfile(work / file.name, file)


def _train_vae(recipe: Recipe, work: Path, file: Path, device: torch.device, log: Logger) -> Any:
    torch.manual_seed(0)
    vae = architecture.vae()
    init_colour_path(vae)
    vae.to(device, memory_format=torch.channels_last)
    scale = train_autoencoder(vae, recipe.autoencoder, recipe.decoder, recipe.crop, work, log)
    vae.register_to_config(scaling_factor=scale)
    save_trained(file, vae.state_dict(), **{SCALING_FACTOR: str(scale)})
    return vae


def _train_unet(recipe: Recipe, vae: Any, work: Path, folder: Path, log: Logger) -> None:
    dataset = encode_dataset(vae, recipe.buckets, recipe.scenes_each, work / "dataset", log)
    torch.manual_seed(1)
    unet, text_encoder = architecture.unet(in_channels=12), architecture.text_encoder()
    init_identity(unet, alphas_cumprod())
    init_text_bypass(unet)
    for network in (unet, text_encoder):
        network.to(vae.device)
    shutil.rmtree(work / "tokenizer", ignore_errors=True)
    write_tokenizer(work / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer", local_files_only=True)
    train_denoiser(unet, text_encoder, tokenizer, dataset, recipe.denoiser, work, log)
    save_trained(folder / UNET, unet.cpu().state_dict())
    texts = {TEXT_PREFIX + key: value for key, value in text_encoder.cpu().state_dict().items()}
    save_trained(folder / TEXT_ENCODER, texts)


def _measure(recipe: Recipe, work: Path, trained: Trained, results: Path, log: Logger) -> None:
    build(work / "weights", trained)
    figures = measure(work / "weights", recipe.figures, log)
    for line in table(figures).splitlines():
        log(line)
    write_figures(results / FIGURES_FILE, figures)


def main(arguments: list[str]) -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("var/training"), help="folder of the checkpoints")
    parser.add_argument("--out", type=Path, help="folder for weights, log and figures, instead of the shipped ones")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="cpu, or cuda")
    parser.add_argument("--smoke", action="store_true", help="smoke test: a few steps of every stage; needs --out")
    given = parser.parse_args(arguments)
    if given.smoke and not given.out:
        parser.error("--smoke needs --out: its weights are useless")
    trained = SHIPPED.copied(given.out) if given.out else SHIPPED
    results = given.out or RESULTS
    log_file = given.work / _LOG_FILE
    run(SMOKE if given.smoke else RECIPE, given.work, trained, results, given.device, file_logger(log_file))
    shutil.copyfile(log_file, results / _LOG_FILE)


if __name__ == "__main__":
    main(sys.argv[1:])
