"""The demo's Stable Diffusion 1.5, in the real folder layout: from the trained files, and a tokenizer made here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.demo import architecture
from models.demo.tokenizer import write_tokenizer
from models.demo.trained_files import TEXT_ENCODER, TEXT_PREFIX, UNET, VAE, Trained
from models.runtime.load import empty, fill
from models.weights.file_errors import file_errors

_INPUT: Final = "conv_in.weight"
_NOISE_CHANNELS: Final = 4


def write_sd15(folder: Path, trained: Trained) -> None:
    """Write tokenizer, text encoder, UNet and VAE into a new `folder`, in single precision; raises `WeightsError`."""
    write_tokenizer(folder / "tokenizer")
    _write_text_encoder(folder / "text_encoder", trained.verified(TEXT_ENCODER))
    _write_unet(folder / "unet", trained.verified(UNET))
    _write_vae(folder / "vae", trained.verified(VAE), trained.scaling_factor())


def write_offset(file: Path, channels: int, trained: Trained) -> None:
    """Write what makes a UNet with `channels` inputs of the base, in half precision; raises `WeightsError`.

    There is one trained UNet for all inputs, and the base is that UNet without those beyond noise. So the offset is
    zero except for them, and base and offset add up to what was trained.
    """
    unet = load_file(trained.verified(UNET))
    offset = {key: torch.zeros_like(value) for key, value in unet.items()}
    offset[_INPUT] = unet[_INPUT][:, :channels].clone()
    offset[_INPUT][:, :_NOISE_CHANNELS] = 0
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(offset, file)


def _write_text_encoder(folder: Path, file: Path) -> None:
    state = {key.removeprefix(TEXT_PREFIX): value for key, value in load_file(file).items()}
    network = _filled(architecture.text_encoder, state, file)
    network.config.save_pretrained(folder)
    published = {TEXT_PREFIX + key: value for key, value in network.state_dict().items()}
    save_file(published, folder / "model.safetensors", {"format": "pt"})


def _write_unet(folder: Path, file: Path) -> None:
    state = load_file(file)
    state[_INPUT] = state[_INPUT][:, :_NOISE_CHANNELS].contiguous()
    _filled(partial(architecture.unet, _NOISE_CHANNELS), state, file).save_pretrained(folder)


def _write_vae(folder: Path, file: Path, scaling_factor: float) -> None:
    _filled(partial(architecture.vae, scaling_factor), load_file(file), file).save_pretrained(folder)


def _filled(build: Callable[[], Any], state: Mapping[str, Tensor], file: Path) -> Any:
    network = empty(build)
    with file_errors(file):
        fill(network, state, torch.device("cpu"), torch.float32)
    return network
