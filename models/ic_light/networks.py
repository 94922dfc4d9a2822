"""The networks of IC-Light, read from weight files and put on the device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from models.errors import WeightsError
from models.ic_light.rmbg import Rmbg, widths_of
from models.ic_light.unet import load_unet
from models.weights.weight_set import WeightSet


@dataclass(frozen=True)
class Networks:
    """Everything that is loaded once. The libraries' classes are untyped here."""

    tokenizer: Any
    text_encoder: Any
    unet: Any
    vae: Any
    matting: nn.Module
    device: torch.device


def load_networks(weights: WeightSet, device: torch.device) -> Networks:
    """Load roles `sd15`, `ic_light_fc` and `rmbg`; raises `WeightsError` if files do not fit their networks.

    On CUDA text encoder and UNet are float16, the VAE bfloat16 (float16 overflows in it) and matting float32;
    elsewhere all are float32.
    """
    # Libraries may take the files' precision if none is named, so it always is.
    half, brain = (torch.float16, torch.bfloat16) if device.type == "cuda" else (torch.float32, torch.float32)
    base = weights["sd15"]
    try:
        return Networks(
            tokenizer=CLIPTokenizer.from_pretrained(base / "tokenizer", local_files_only=True),
            text_encoder=_pretrained(CLIPTextModel, base / "text_encoder", dtype=half).to(device),
            unet=load_unet(base / "unet", weights["ic_light_fc"], half).to(device),
            vae=_pretrained(AutoencoderKL, base / "vae", torch_dtype=brain).to(device),
            matting=load_matting(weights["rmbg"]).to(device),
            device=device,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise WeightsError(f"The weights of ic-light do not load: {error}") from error


def load_matting(path: Path) -> Rmbg:
    """Build the matting network with the widths of the file at `path`, in evaluation mode."""
    state = load_file(path)
    network = Rmbg(widths_of(state))
    network.load_state_dict(state)
    return network.eval()


def _pretrained(kind: Any, folder: Path, **options: Any) -> Any:
    network, report = kind.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **options
    )
    if report["missing_keys"]:  # the libraries would fill these with random values
        raise WeightsError(f"{folder} lacks {', '.join(sorted(report['missing_keys']))}.")
    return network.eval()
