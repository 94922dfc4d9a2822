"""Networks with random weights, made where they are used: no file is read but the networks' configurations.

At full size, or `reduced`: of the same topology and narrow, so that a processor runs them in moments. The libraries'
own initialisation keeps activations within float16's range.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from bench.full_size import ic_light, pulid_lightning
from bench.full_size.fakes import AnyFace, WordTokenizer
from models.ic_light.matting import RmbgMatting
from models.ic_light.networks import Networks
from models.ic_light.options import Options
from models.ic_light.pipeline import IcLight
from models.ic_light.rmbg import BlockWidths, Rmbg, RmbgWidths
from models.pulid_lightning.adapter import Projection
from models.pulid_lightning.checkpoints import Checkpoint, Checkpoints
from models.pulid_lightning.identity.bisenet import BiSeNet
from models.pulid_lightning.identity.encoder import IDEncoder
from models.pulid_lightning.identity.eva_clip import EvaClip, build_tower
from models.pulid_lightning.identity.extractor import IdentityExtractor
from models.pulid_lightning.pipeline import PulidLightning
from models.pulid_lightning.single_file import SDXL
from models.runtime.load import for_device
from models.runtime.precision import Precision, identity_precision, precision_of
from models.runtime.projections import weights_for_device
from models.runtime.runner import EAGER, Execution
from models.runtime.unet import unet_for_device
from models.runtime.vae_attention import vae_for_device

Network = TypeVar("Network", bound=nn.Module)

_TEXT_L, _TEXT_G, _TIME = 32, 48, 16
_NARROW_SDXL: Final = {
    "block_out_channels": [32, 64, 64],
    "transformer_layers_per_block": [1, 1, 2],
    "attention_head_dim": [1, 2, 2],
    "cross_attention_dim": _TEXT_L + _TEXT_G,
    "addition_time_embed_dim": _TIME,
    "projection_class_embeddings_input_dim": _TEXT_G + 6 * _TIME,
}
_NARROW_SD15: Final = {
    "block_out_channels": [32, 32, 64, 64],
    "attention_head_dim": 2,
    "cross_attention_dim": _TEXT_L,
}
_NARROW_VAE: Final = {"block_out_channels": [8, 16, 24, 24], "norm_num_groups": 8}
_NARROW_TOWER: Final = 64
_SHRINK_RMBG: Final = 16
_IDS: Final = 512


@dataclass(frozen=True)
class PulidParts:
    """The networks of `pulid-lightning`, on one device; `projections` by layer, `face_networks` to watch."""

    unet: Any
    vae: Any
    clip_l: Any
    clip_g: Any
    tower: Any
    extractor: IdentityExtractor
    face_networks: tuple[nn.Module, ...]
    projections: Mapping[int, Projection]
    device: torch.device


@dataclass(frozen=True)
class IcLightParts:
    """The networks of `ic-light`, on one device."""

    unet: Any
    vae: Any
    text_encoder: Any
    matting: Rmbg
    device: torch.device


def pulid_parts(device: torch.device, reduced: bool, precision: Precision | None = None) -> PulidParts:
    """Make all networks of pulid-lightning; in the serving precision unless another is named."""
    wanted = precision or precision_of(device)

    def made(narrow: Callable[[], Any], full: Callable[[], Any], dtype: torch.dtype) -> Any:
        return make(narrow if reduced else full, device, dtype)

    unet = pulid_unet(device, reduced, wanted.half)
    parser = made(lambda: BiSeNet([8] * 5, 8, 16, 4, 16, 19), pulid_lightning.face_parser, torch.float32)
    identity = identity_precision(device) if precision is None else torch.float32
    tower = made(_tower, pulid_lightning.vision_tower, identity)
    encoder = made(lambda: IDEncoder(2 * _IDS, (64, 64), _NARROW_TOWER, 80), pulid_lightning.id_encoder, identity)
    return PulidParts(
        unet=unet,
        vae=vae_for_device(made(lambda: _vae(SDXL / "vae"), pulid_lightning.vae, wanted.wide_half), device),
        clip_l=made(lambda: CLIPTextModel(_text(_TEXT_L, "text_encoder")), pulid_lightning.clip_l, wanted.half),
        clip_g=made(
            lambda: CLIPTextModelWithProjection(_text(_TEXT_G, "text_encoder_2")),
            pulid_lightning.clip_g,
            wanted.half,
        ),
        tower=tower,
        extractor=IdentityExtractor(parser, EvaClip(tower), encoder, device),
        # Of the tower, which is not called as a whole, the first layer.
        face_networks=(parser, tower.patch_embed, encoder),
        projections=projections(unet, wanted.half),
        device=device,
    )


def pulid_unet(device: torch.device, reduced: bool, dtype: torch.dtype) -> Any:
    """The UNet of one checkpoint."""
    build = (lambda: _unet(SDXL / "unet", _NARROW_SDXL)) if reduced else pulid_lightning.unet
    return unet_for_device(make(build, device, dtype), device)


def ic_light_parts(device: torch.device, reduced: bool, precision: Precision | None = None) -> IcLightParts:
    """Make all networks of a relighting; in the serving precision unless another is named."""
    wanted = precision or precision_of(device)

    def made(narrow: Callable[[], Any], full: Callable[[], Any], dtype: torch.dtype) -> Any:
        return make(narrow if reduced else full, device, dtype)

    return IcLightParts(
        unet=unet_for_device(
            made(lambda: _unet(ic_light.SD15 / "unet", {**_NARROW_SD15, "in_channels": 8}), ic_light.unet, wanted.half),
            device,
        ),
        vae=vae_for_device(made(lambda: _vae(ic_light.SD15 / "vae"), ic_light.vae, wanted.wide_half), device),
        text_encoder=made(
            lambda: CLIPTextModel(_text(_TEXT_L, "text_encoder", ic_light.SD15)), ic_light.text_encoder, wanted.half
        ),
        matting=made(lambda: Rmbg(_narrow_rmbg()), ic_light.rmbg, torch.float32),
        device=device,
    )


def pulid_pipeline(parts: PulidParts, execution: Execution = EAGER, unets: Mapping[str, Any] = {}) -> PulidLightning:
    """The real pipeline over these networks; `unets` are further checkpoints', by name."""
    kept = {
        name: Checkpoint(unet, parts.vae, parts.clip_l, parts.clip_g)
        for name, unet in {"default": parts.unet, **unets}.items()
    }
    faces: Any = AnyFace()
    return PulidLightning(
        faces=faces,
        tokenizers=(WordTokenizer(), WordTokenizer()),
        extractor=parts.extractor,
        projections=parts.projections,
        checkpoints=Checkpoints(kept, {}, "default"),
        device=parts.device,
        execution=execution,
    )


def ic_light_pipeline(parts: IcLightParts, execution: Execution = EAGER, cpu_noise: bool = False) -> IcLight:
    """The real pipeline over these networks."""
    networks = Networks(
        tokenizer=WordTokenizer(),
        text_encoder=parts.text_encoder,
        unet=parts.unet,
        background_unet=None,
        vae=parts.vae,
        matting=RmbgMatting(parts.matting, parts.device),
        device=parts.device,
    )
    return IcLight(networks, Options(cpu_noise=cpu_noise), execution)


def make(build: Callable[[], Network], device: torch.device, dtype: torch.dtype) -> Network:
    """Build a network on the device, ready to compute there."""
    with device:
        network = build()
    # The plain module's way: the library's own warns of any precision.
    nn.Module.to(network.eval().requires_grad_(False), dtype)
    return for_device(network, device)


def projections(unet: Any, dtype: torch.dtype) -> dict[int, Projection]:
    """Random key and value weights of the adapter for every cross-attention of a UNet."""
    context = unet.config.cross_attention_dim

    def drawn(width: int) -> torch.Tensor:
        return torch.randn(width, context, device=unet.device).div_(context**0.5).to(dtype)

    made = {
        index: Projection(*(drawn(unet.get_submodule(name.removesuffix(".processor")).inner_dim) for _ in range(2)))
        for index, name in enumerate(unet.attn_processors)
        if name.endswith("attn2.processor")
    }
    weights_for_device([projection.key for projection in made.values()], unet.device)
    weights_for_device([projection.value for projection in made.values()], unet.device)
    return made


def _unet(folder: Path, narrow: Mapping[str, Any]) -> Any:
    return UNet2DConditionModel.from_config({**UNet2DConditionModel.load_config(folder), **narrow})


def _vae(folder: Path) -> Any:
    return AutoencoderKL.from_config({**AutoencoderKL.load_config(folder), **_NARROW_VAE})


def _text(width: int, name: str, folder: Path = SDXL) -> Any:
    config = CLIPTextConfig.from_pretrained(folder / name)
    narrow = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 3, "num_attention_heads": 2}
    return CLIPTextConfig.from_dict({**config.to_dict(), **narrow, "projection_dim": width})


def _tower() -> Any:
    return build_tower(_IDS, _NARROW_TOWER, depth=24, heads=1, mlp_width=96, patch=14, grid=4)


def _narrow_rmbg() -> RmbgWidths:
    def narrow(width: int) -> int:
        return max(1, width // _SHRINK_RMBG)

    blocks = {
        stage: BlockWidths(narrow(block.inputs), narrow(block.middle), narrow(block.outputs))
        for stage, block in ic_light.RMBG.blocks.items()
    }
    return RmbgWidths(stem=narrow(ic_light.RMBG.stem), blocks=blocks)
