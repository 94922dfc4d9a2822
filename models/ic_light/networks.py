"""The networks of IC-Light, read from weight files and put on the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL
from safetensors import SafetensorError
from transformers import CLIPTextModel, CLIPTokenizer

from models.errors import WeightsError
from models.execution.devices import for_device
from models.ic_light.matting import Matting, RmbgMatting
from models.ic_light.matting_onnx import BIREFNET, ISNET, OnnxMatting
from models.ic_light.unet import BACKGROUND_CHANNELS, FOREGROUND_CHANNELS, load_unet
from models.loading import load_part
from models.weights.weight_set import WeightSet

MATTINGS: Final[Mapping[str, Callable[[Path, torch.device], Matting]]] = {
    "rmbg": RmbgMatting.load,
    "matting_onnx_birefnet": lambda path, device: OnnxMatting(path, BIREFNET, device),
    "matting_onnx_isnet": lambda path, device: OnnxMatting(path, ISNET, device),
}
"""The matting networks that there are, by role; the operator's choice is the one role that the weights hold."""
_BACKGROUND_ROLE: Final = "ic_light_fbc"


@dataclass(frozen=True)
class Networks:
    """Everything that is loaded once; `background_unet` is None without its weights.

    The libraries' classes are untyped here.
    """

    tokenizer: Any
    text_encoder: Any
    unet: Any
    background_unet: Any | None
    vae: Any
    matting: Matting
    device: torch.device


def load_networks(weights: WeightSet, device: torch.device, full_precision: bool = False) -> Networks:
    """Load roles `sd15`, `ic_light_fc`, one of `MATTINGS` and, if it is there, `ic_light_fbc`.

    On CUDA text encoder and UNet are float16, the VAE bfloat16 (float16 overflows in it) and matting float32, unless
    `full_precision` is asked for; elsewhere all are float32. Raises `WeightsError` if files do not fit their networks.
    """
    # Libraries may take the files' precision if none is named, so it always is.
    reduced = device.type == "cuda" and not full_precision
    half, brain = (torch.float16, torch.bfloat16) if reduced else (torch.float32, torch.float32)
    base = weights["sd15"]

    def pretrained(name: str, kind: Any, **options: Any) -> Any:
        return load_part(f"sd15 {name}", lambda path: _pretrained(kind, path, device, **options), base / name)

    def unet(role: str, channels: int) -> Any:
        def load(folder: Path, offset: Path) -> Any:
            return load_unet(folder, offset, channels, half, device)

        return load_part(role, load, base / "unet", weights[role])

    try:
        return Networks(
            tokenizer=CLIPTokenizer.from_pretrained(base / "tokenizer", local_files_only=True),
            text_encoder=pretrained("text_encoder", CLIPTextModel, dtype=half),
            unet=unet("ic_light_fc", FOREGROUND_CHANNELS),
            background_unet=unet(_BACKGROUND_ROLE, BACKGROUND_CHANNELS) if _BACKGROUND_ROLE in weights.paths else None,
            vae=for_device(pretrained("vae", AutoencoderKL, torch_dtype=brain), device),
            matting=load_matting(weights, device),
            device=device,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise WeightsError(f"The weights of ic-light do not load: {error}") from error


def load_matting(weights: WeightSet, device: torch.device) -> Matting:
    """Load the one matting network that the weights hold; raises `WeightsError` if that is none or several."""
    found = [role for role in MATTINGS if role in weights.paths]
    if len(found) != 1:
        raise WeightsError(f"ic-light needs one role of {', '.join(MATTINGS)}; there are {', '.join(found) or 'none'}.")
    return load_part(found[0], lambda path: MATTINGS[found[0]](path, device), weights[found[0]])


def _pretrained(kind: Any, folder: Path, device: torch.device, **options: Any) -> Any:
    network, report = kind.from_pretrained(
        folder,
        local_files_only=True,
        use_safetensors=True,
        device_map={"": device},
        output_loading_info=True,
        **options,
    )
    if report["missing_keys"]:  # the libraries would fill these with random values
        raise WeightsError(f"{folder} lacks {', '.join(sorted(report['missing_keys']))}.")
    return network.eval()
