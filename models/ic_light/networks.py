"""The networks of IC-Light, loaded from weight files; UNets are merged with offsets (specification 7 and 17)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from models.errors import WeightsError
from models.ic_light.matting import Matting, RmbgMatting
from models.ic_light.matting_onnx import BIREFNET, ISNET, OnnxMatting
from models.ic_light.prompt import CHUNK
from models.ic_light.vae import LATENT_CHANNELS, LATENT_SCALE
from models.model import MemoryNeed
from models.runtime.load import Loaded, empty, fill, load_part
from models.runtime.precision import Precision, precision_of
from models.runtime.state_dicts import StateDict, check_numbers, read_config, read_state_dict, require, size_in, under
from models.runtime.tensor_file import Reading, read, read_all
from models.runtime.tokenizers import load_tokenizer
from models.runtime.unet import check_supported, unet_for_device
from models.runtime.vae_attention import vae_for_device
from models.weights.file_errors import file_errors
from models.weights.folder import Folder
from models.weights.installed import WeightSet
from models.weights.objective import markers, refuse_markers, require_noise_prediction

MATTINGS: Final[Mapping[str, Callable[[Path, torch.device], Matting]]] = {
    "rmbg": RmbgMatting.load,
    "matting_onnx_birefnet": lambda path, device: OnnxMatting(path, BIREFNET, device),
    "matting_onnx_isnet": lambda path, device: OnnxMatting(path, ISNET, device),
}
"""Loaders of matting networks by weights role; exactly one of these roles is installed."""
_FOREGROUND_ROLE: Final = "ic_light_fc"
_BACKGROUND_ROLE: Final = "ic_light_fbc"
_OFFSET_ROLES: Final = (_FOREGROUND_ROLE, _BACKGROUND_ROLE)
"""Offsets have the tensors of the UNets that they are added to."""
_SCHEDULER: Final = "scheduler/scheduler_config.json"
_TEXT_PREFIX: Final = "text_model."
_POSITIONS: Final = "position_ids"
"""Suffix of a buffer that older files contain."""
_ATTENTION: Final = ".attentions.0."
_OLD_LAYERS: Final = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
FOREGROUND_CHANNELS: Final = 8
"""UNet input channels: 4 of noisy latents, 4 of foreground latents."""
BACKGROUND_CHANNELS: Final = 12
"""UNet input channels with a background: 4 more, of its latents."""
_INPUT: Final = "conv_in.weight"
_WEIGHTS: Final = "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True)
class Networks:
    """The loaded networks; `background_unet` is None without its weights. `Any`: classes of untyped libraries."""

    tokenizer: Any
    text_encoder: Any
    unet: Any
    background_unet: Any | None
    vae: Any
    matting: Matting
    device: torch.device


def load_networks(weights: WeightSet, device: torch.device, precision: Precision | None = None) -> Networks:
    """Load roles `sd15`, `ic_light_fc`, one of `MATTINGS` and, if installed, `ic_light_fbc`.

    `precision` is that of text encoder, UNet and VAE; None: half where `device` is a GPU, else float32. Matting is
    float32. Raises `WeightsError` if files do not fit their networks.
    """
    half, wide_half = precision or precision_of(device)
    base = weights.folder("sd15")
    _require_noise_schedule(base)

    def unet(role: str, channels: int) -> Any:
        def load(_folder: Path, offset: Path) -> Any:
            return load_unet(base.inner("unet"), offset, channels, half, device)

        return load_part(role, load, base.path / "unet", weights[role])

    sizes = base.file("text_encoder/config.json")
    text_encoder = _load_part(base, "text_encoder", lambda folder: _load_text_encoder(folder, device, half))
    networks = Networks(
        tokenizer=load_tokenizer(base.inner("tokenizer"), text_encoder.config.vocab_size, [sizes]),
        text_encoder=text_encoder,
        unet=unet(_FOREGROUND_ROLE, FOREGROUND_CHANNELS),
        background_unet=unet(_BACKGROUND_ROLE, BACKGROUND_CHANNELS) if _BACKGROUND_ROLE in weights.paths else None,
        vae=_load_part(base, "vae", lambda folder: load_vae(folder, device, wide_half)),
        matting=load_matting(weights, device),
        device=device,
    )
    with file_errors(sizes, base.file("unet/config.json")):
        width, expected = text_encoder.config.hidden_size, networks.unet.config.cross_attention_dim
        if width != expected:
            raise WeightsError(f"the text encoder's states are {width} wide where the UNet reads {expected}.")
    return networks


def network_needs(weights: WeightSet, precision: Precision) -> list[MemoryNeed]:
    """What `load_networks` takes by part, from the headers of the files; raises `WeightsError`."""
    base = weights.folder("sd15")
    files = {
        "sd15 text_encoder": (base.file("text_encoder/model.safetensors"), precision.half),
        "sd15 vae": (base.file(f"vae/{_WEIGHTS}"), precision.wide_half),
        **{role: (weights[role], precision.half) for role in _OFFSET_ROLES if role in weights.paths},
        **{role: (weights[role], torch.float32) for role in MATTINGS if role in weights.paths},
    }
    needs = []
    for part, (path, dtype) in files.items():
        if path.suffix == ".onnx":
            needs.append(MemoryNeed(part, host=path.stat().st_size))
        else:
            needs.append(MemoryNeed(part, device=size_in(read_state_dict(path), dtype)))
    return needs


def load_matting(weights: WeightSet, device: torch.device) -> Matting:
    """Load the one matting network that the weights hold; raises `WeightsError` if that is none or several."""
    found = [role for role in MATTINGS if role in weights.paths]
    if len(found) != 1:
        raise WeightsError(f"ic-light needs one role of {', '.join(MATTINGS)}; there are {', '.join(found) or 'none'}.")
    return load_part(found[0], lambda path: MATTINGS[found[0]](path, device), weights[found[0]])


def _load_part(base: Folder, name: str, load: Callable[[Folder], Loaded]) -> Loaded:
    return load_part(f"sd15 {name}", lambda _path: load(base.inner(name)), base.path / name)


def _load_text_encoder(folder: Folder, device: torch.device, dtype: torch.dtype) -> Any:
    config, file = folder.file("config.json"), folder.file("model.safetensors")
    sizes, state = read_config(config), read_state_dict(file)
    state = under(state, _TEXT_PREFIX) or state
    with file_errors(config, file):
        network = empty(lambda: CLIPTextModel(CLIPTextConfig.from_dict(sizes)))
        fill(network, {name: tensor for name, tensor in state.items() if not name.endswith(_POSITIONS)}, device, dtype)
        if network.config.max_position_embeddings != CHUNK + 2:
            raise WeightsError(f"it reads {network.config.max_position_embeddings} tokens where {CHUNK + 2} are due.")
        return network


def load_vae(folder: Folder, device: torch.device, dtype: torch.dtype) -> Any:
    """Load the autoencoder in `folder`, with current or older tensor names; raises `WeightFileError`."""
    config, file = folder.file("config.json"), folder.file("diffusion_pytorch_model.safetensors")
    sizes, state = read_config(config), read_state_dict(file)
    with file_errors(config, file):
        network = empty(lambda: AutoencoderKL.from_config(sizes))
        fill(network, {_renamed(name): tensor for name, tensor in state.items()}, device, dtype)
        scale = 2 ** (len(network.config.block_out_channels) - 1)
        if (network.config.latent_channels, scale) != (LATENT_CHANNELS, LATENT_SCALE):
            raise WeightsError("it is no VAE of Stable Diffusion 1: its latents are of another kind.")
        return vae_for_device(network, device)


def _renamed(name: str) -> str:
    """Current name of a VAE tensor; published files have older names in the attention block."""
    place, attention, part = name.partition(_ATTENTION)
    layer, _, kind = part.rpartition(".")
    return f"{place}{attention}{_OLD_LAYERS[layer]}.{kind}" if layer in _OLD_LAYERS else name


def _require_noise_schedule(base: Folder) -> None:
    """Raise `WeightFileError` if there is a scheduler configuration, and it is not of an epsilon-prediction network."""
    if _SCHEDULER in base:
        path = base.file(_SCHEDULER)
        with file_errors(path):
            refuse_markers(markers((), read_config(path)))


def load_unet(base: Folder, offset: Path, channels: int, dtype: torch.dtype, device: torch.device) -> Any:
    """Build the merged UNet of `channels` inputs on `device` from a base folder (config.json, weights) and an offset.

    Raises `WeightFileError` if a weight is missing or has another shape, if the configuration is of another kind of
    UNet, or if it is marked as one that does not predict noise.
    """
    config, weights = base.file("config.json"), base.file(_WEIGHTS)
    with file_errors(config):
        unet = empty_unet(read_config(config), channels)
        check_supported(unet)
    like = unet.state_dict()
    base_state, offset_state = (_read_unet(path, config, like) for path in (weights, offset))
    with file_errors(config, weights, offset):
        # Assigned, not copied: the network was built without storage.
        unet.load_state_dict(_merged(base_state, offset_state, like, dtype, device), assign=True)
    return unet_for_device(unet.eval(), device)


def _merged(
    base: StateDict, offset: StateDict, like: StateDict, dtype: torch.dtype, device: torch.device
) -> dict[str, Tensor]:
    """Base plus offset of all weights in `dtype` on `device`, with the shapes of `like`; raises `WeightsError`."""
    merged = {key: torch.empty(tensor.shape, dtype=dtype, device=device) for key, tensor in like.items()}
    readings = []
    for key, tensor in like.items():
        shape = base[key].shape
        # The base's input convolution has no channels for the conditions: they are zero.
        missing = tensor.shape[1] - shape[1] if key == _INPUT else 0
        if missing > 0:
            shape = torch.Size((shape[0], shape[1] + missing, *shape[2:]))
        if not shape == offset[key].shape == tensor.shape:
            raise WeightsError(f"{key}: {list(shape)} and {list(offset[key].shape)} where {list(tensor.shape)} is due.")
        if missing > 0:
            padded = F.pad(read(base[key]), (0, 0, 0, 0, 0, missing))
            merged[key].copy_(merge(padded, read(offset[key])))
        else:
            readings.append(Reading(merged[key], (base[key], offset[key]), merge))
    read_all(readings)
    return merged


def _read_unet(path: Path, config: Path, like: StateDict) -> StateDict:
    """Read a file's tensors and check them against the UNet that `config` describes."""
    require_noise_prediction(path)
    state = read_state_dict(path)
    with file_errors(path, config):
        require(state, like)
        check_numbers({key: state[key] for key in like}, like)
        return state


def empty_unet(config: Mapping[str, Any], channels: int) -> Any:
    """Build the UNet that `config` describes, with `channels` inputs, on the meta device: shapes without storage."""
    with torch.device("meta"):
        return UNet2DConditionModel.from_config({**config, "in_channels": channels})


def merge(base: Tensor, offset: Tensor) -> Tensor:
    """Base plus offset in float32: half precision loses the offset to rounding."""
    return base.float() + offset.float()
