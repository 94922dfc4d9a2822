"""Trains ic-light's demo weights: `python -m training`, about two hours on two CPU cores.

Each part is written when it is done, and a run that was stopped goes on from its last checkpoint. In the end the files
are pinned in the lock, built, measured, and the measures printed and written beside them, as is the log.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from tqdm import tqdm
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
from training.data.dataset import GROUPS, Group, encode_pool
from training.evaluation.evaluate import FULL, QUICK, Plan, measure
from training.evaluation.goals import FIGURES_FILE, table, write_figures
from training.networks.colour_path import lay_colour_path
from training.networks.identity_init import lay_gain
from training.networks.text_bypass import lay_text_lane
from training.stages import matting
from training.stages.autoencoder import train_autoencoder
from training.stages.denoiser import Schedules, train_denoiser
from training.stages.loop import Say, Schedule

_LOG: Final = "training.log"


@dataclass(frozen=True)
class Recipe:
    """How much work every part takes; `crop` is the side in px of what the autoencoder learns from."""

    matting: Schedule
    autoencoder: Schedule
    decoder: Schedule
    crop: int
    groups: tuple[Group, ...]
    scenes_each: int
    denoiser: Schedules
    figures: Plan


RECIPE: Final = Recipe(
    matting=matting.SCHEDULE,
    autoencoder=Schedule(1200, 7e-4, final_share=0.3),
    decoder=Schedule(2500, 7e-4, average=0.998),
    crop=128,
    groups=GROUPS,
    scenes_each=4,
    denoiser=Schedules(
        text=Schedule(600, 2e-3),
        first=Schedule(13_000, 1e-3, warm_up=200, average=0.999),
        last=Schedule(2_500, 8e-4, average=0.998),
    ),
    figures=FULL,
)
SMOKE: Final = Recipe(
    matting=Schedule(2, 4e-3),
    autoencoder=Schedule(3, 7e-4),
    decoder=Schedule(3, 7e-4, average=0.998),
    crop=64,
    groups=(Group(6, 2, 192, 192),),
    scenes_each=3,
    denoiser=Schedules(Schedule(2, 2e-3), Schedule(3, 1.5e-3, average=0.999), Schedule(2, 1e-3, average=0.998)),
    figures=QUICK,
)
"""Every part for a few steps: shows that all of it runs, and gives weights that are good for nothing."""


def run(recipe: Recipe, work: Path, trained: Trained, device: torch.device, say: Say) -> None:
    """Train all parts into the folder of `trained` and pin them; checkpoints go to `work`."""
    work.mkdir(parents=True, exist_ok=True)
    trained.folder.mkdir(parents=True, exist_ok=True)
    say(f"torch {torch.__version__} on {device}, {platform.machine()}, {torch.get_num_threads()} threads")
    vae = _timed("autoencoder", say, lambda: _train_vae(recipe, work, trained.folder / VAE, device, say))
    _timed("denoiser", say, lambda: _train_unet(recipe, vae, work, trained.folder, say))
    _timed("matting", say, lambda: _train_matting(recipe, work, trained.folder / RMBG, device, say))
    trained.pin()
    _timed("figures", say, lambda: _measure(recipe, work, trained, say))


def _train_matting(recipe: Recipe, work: Path, file: Path, device: torch.device, say: Say) -> None:
    if not (work / file.name).is_file():
        matting.train_matting(work / file.name, work, say, recipe.matting, device)
    shutil.copyfile(work / file.name, file)


def _train_vae(recipe: Recipe, work: Path, file: Path, device: torch.device, say: Say) -> Any:
    torch.manual_seed(0)
    vae = architecture.vae()
    lay_colour_path(vae)
    vae.to(device, memory_format=torch.channels_last)
    scale = train_autoencoder(vae, recipe.autoencoder, recipe.decoder, recipe.crop, work, say)
    vae.register_to_config(scaling_factor=scale)
    save_trained(file, vae.state_dict(), **{SCALING_FACTOR: str(scale)})
    return vae


def _train_unet(recipe: Recipe, vae: Any, work: Path, folder: Path, say: Say) -> None:
    pool = encode_pool(vae, recipe.groups, recipe.scenes_each, work / "pool", say)
    torch.manual_seed(1)
    unet, text_encoder = architecture.unet(in_channels=12), architecture.text_encoder()
    lay_gain(unet, alphas_cumprod())
    lay_text_lane(unet)
    for network in (unet, text_encoder):
        network.to(vae.device)
    shutil.rmtree(work / "tokenizer", ignore_errors=True)
    write_tokenizer(work / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer", local_files_only=True)
    train_denoiser(unet, text_encoder, tokenizer, pool, recipe.denoiser, work, say)
    save_trained(folder / UNET, unet.cpu().state_dict())
    texts = {TEXT_PREFIX + key: value for key, value in text_encoder.cpu().state_dict().items()}
    save_trained(folder / TEXT_ENCODER, texts)


def _measure(recipe: Recipe, work: Path, trained: Trained, say: Say) -> None:
    build(work / "weights", trained)
    figures = measure(work / "weights", recipe.figures, say)
    for line in table(figures).splitlines():
        say(line)
    write_figures(trained.folder / FIGURES_FILE, figures)


def _timed(part: str, say: Say, work: Callable[[], Any]) -> Any:
    began = time.monotonic()
    result = work()
    say(f"{part}: done in {(time.monotonic() - began) / 60:.1f} minutes")
    return result


def _sayer(log: Path) -> Say:
    log.parent.mkdir(parents=True, exist_ok=True)

    def say(line: str) -> None:
        tqdm.write(line)
        with log.open("a") as file:
            file.write(f"{line}\n")

    return say


def main(arguments: list[str]) -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("var/training"), help="folder of the checkpoints")
    parser.add_argument("--out", type=Path, help="folder for the trained files, instead of the project's own")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="cpu, or cuda")
    parser.add_argument("--smoke", action="store_true", help="take a few steps of everything; needs --out")
    given = parser.parse_args(arguments)
    if given.smoke and not given.out:
        parser.error("--smoke needs --out: its weights are good for nothing")
    trained = Trained(given.out, _lock_beside(given.out)) if given.out else SHIPPED
    log = given.work / _LOG
    run(SMOKE if given.smoke else RECIPE, given.work, trained, given.device, _sayer(log))
    shutil.copyfile(log, trained.folder / _LOG)


def _lock_beside(folder: Path) -> Path:
    """A copy of the shipped lock, to be pinned in instead."""
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(SHIPPED.lock, folder / SHIPPED.lock.name))


if __name__ == "__main__":
    main(sys.argv[1:])
