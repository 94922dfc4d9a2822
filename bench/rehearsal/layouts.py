"""The tensors of every weight file in weights.lock: names, types and shapes as they are published.

They are taken from the networks themselves on the meta device, at full size or `reduced` to narrow ones, and brought
under the published names. Files whose size the lock knows come out at that size (tests/bench/test_rehearsal.py), with
spaces in the header where the published file has tensors or metadata that nobody described.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from bench.full_size.networks import IcLightParts, PulidParts, ic_light_parts, pulid_parts
from bench.full_size.stored import Content, Stored
from models.demo.original_keys import clip_g_state, clip_l_key, unet_state, vae_state
from models.pulid_lightning.identity.encoder import IDFormer, IDFormerSizes

_META: Final = torch.device("meta")
_PYTORCH: Final = {"format": "pt"}
"""What the libraries of diffusion models write into the header."""
_POSITIONS: Final = "conditioner.embedders.0.transformer.text_model.embeddings.position_ids"
_LOGIT_SCALE: Final = "conditioner.embedders.1.model.logit_scale"
_UNET: Final = "model.diffusion_model."
_VAE: Final = "first_stage_model."
_COUNTER: Final = ".num_batches_tracked"
_COMFYUI: Final = ("image_proj", "ip_adapter.{}.to_{}_ip.weight")
_OFFICIAL: Final = ("id_adapter", "id_adapter_attn_layers.{}.id_to_{}.weight")
"""How the two kinds of adapter files name the encoder, and the weights of a layer."""
_TOWER_NAMES: Final = {
    ".attn.q_proj.bias": ".attn.q_bias",
    ".attn.v_proj.bias": ".attn.v_bias",
    ".attn.norm.": ".attn.inner_attn_ln.",
    ".mlp.fc1_g.": ".mlp.w1.",
    ".mlp.fc1_x.": ".mlp.w2.",
    ".mlp.norm.": ".mlp.ffn_ln.",
    ".mlp.fc2.": ".mlp.w3.",
}
"""Names of the vision tower's parts in timm, and in the edition of its authors."""
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Networks:
    """Every network that a weight file is for, on the meta device; `former` is the encoder of PuLID v1.1."""

    pulid: PulidParts
    ic_light: IcLightParts
    former: IDFormer


def networks(reduced: bool) -> Networks:
    """Make the networks; no memory is taken for their weights."""
    pulid = pulid_parts(_META, reduced)
    context, hidden = pulid.unet.config.cross_attention_dim, pulid.tower.embed_dim
    with _META:
        sizes = IDFormerSizes(
            id_width=512 + pulid.tower.num_classes,
            hidden=hidden,
            dim=hidden,
            context=context,
            head_dim=64,
            heads=hidden // 64,
            queries=32,
            body_tokens=5,
            depth=10,
        )
        return Networks(pulid, ic_light_parts(_META, reduced), IDFormer(sizes))


def contents(of: Networks) -> dict[str, Content]:
    """What each .safetensors file and each pickle holds, by its path in the lock."""
    return _checkpoints(of.pulid) | _identity(of) | _bases(of.ic_light) | _offsets(of.ic_light) | _matting(of.ic_light)


def _checkpoints(parts: PulidParts) -> dict[str, Content]:
    shapes = _shapes(
        unet_state(parts.unet.state_dict())
        | vae_state(parts.vae.state_dict())
        | {clip_l_key(key): tensor for key, tensor in parts.clip_l.state_dict().items()}
        | clip_g_state(parts.clip_g.state_dict())
    )
    tensors = _all(shapes, "F16")
    wide_vae = {key: Stored("F32", shape) for key, shape in shapes.items() if key.startswith(_VAE)}
    positions, scale = _positions_of(parts.clip_l), {_LOGIT_SCALE: Stored("F16", ())}
    usual = tensors | {_POSITIONS: Stored("F16", positions)} | scale
    juggernaut = tensors | wide_vae | {_POSITIONS: Stored("I64", positions)}

    def tuned(number: int, held: Mapping[str, Stored], metadata: Mapping[str, str] | None = None) -> Content:
        # A fine-tuned UNet of its own; text encoders and VAE are the base model's, as in most published checkpoints.
        return Content(held, metadata, seed=11, seeds={_UNET: 11 + 1000 * number})

    return {
        "sdxl/dreamshaper-xl-lightning.safetensors": tuned(1, usual),
        "sdxl/dreamshaper-xl-lightning-original.safetensors": tuned(2, usual),
        "sdxl/sdxl-lightning.safetensors": tuned(3, usual),
        "sdxl/proteus-v0.4-lightning.safetensors": tuned(4, usual),
        "sdxl/juggernaut-xl-lightning.safetensors": tuned(5, juggernaut, {}),
        "sdxl/realvisxl-v5-lightning.safetensors": tuned(6, usual),
    }


def _positions_of(text_encoder: Any) -> tuple[int, int]:
    """Shape of the table of positions that older files hold."""
    return 1, text_encoder.config.max_position_embeddings


def _identity(of: Networks) -> dict[str, Content]:
    parts = of.pulid
    tower = _shapes(parts.tower.state_dict())
    text = _all(_text_tower(parts.clip_l), "F16")
    temperature = {"logit_scale": Stored("F16", ())}
    authors = {f"visual.{_authors_name(key)}": shape for key, shape in tower.items()}
    timm = {f"visual.trunk.{key}": shape for key, shape in tower.items()}
    encoder = _encoder_of(parts)
    return {
        "pulid/pulid-v1-fp16.safetensors": Content(_adapter(encoder, parts, _COMFYUI, "F16"), seed=21),
        "pulid/pulid-v1.safetensors": Content(_adapter(encoder, parts, _OFFICIAL, "F32"), seed=22),
        "pulid/pulid-v1.1.safetensors": Content(_adapter(of.former, parts, _OFFICIAL, "F16"), seed=23),
        "pulid/eva02-clip-l-336.safetensors": Content(_all(authors, "F16") | text | temperature, seed=31),
        # Without the temperature, with which it would be two bytes larger than the published file.
        "pulid/eva02-clip-l-336-timm.safetensors": Content(_all(timm, "F16") | text, seed=31),
        "face/parsing_bisenet.safetensors": Content(_face_parser(parts), seed=41),
    }


def _encoder_of(parts: PulidParts) -> nn.Module:
    return parts.face_networks[-1]


def _adapter(encoder: nn.Module, parts: PulidParts, names: tuple[str, str], dtype: str) -> dict[str, Stored]:
    prefix, layer = names
    tensors = {f"{prefix}.{key}": tuple(tensor.shape) for key, tensor in encoder.state_dict().items()}
    for index, projection in parts.projections.items():
        tensors |= {layer.format(index, kind): tuple(projection.key.shape) for kind in ("k", "v")}
    return _all(tensors, dtype)


def _authors_name(key: str) -> str:
    for name, authors in _TOWER_NAMES.items():
        key = key.replace(name, authors)
    return key


def _text_tower(clip_l: Any) -> Shapes:
    """EVA-CLIP's text tower, which nothing here uses: of CLIP-L's sizes, under OpenCLIP's names."""
    sizes = clip_l.config
    width, middle = sizes.hidden_size, sizes.intermediate_size
    shapes: Shapes = {
        "text.positional_embedding": (sizes.max_position_embeddings, width),
        "text.text_projection": (width, width),
        "text.token_embedding.weight": (sizes.vocab_size, width),
        "text.ln_final.weight": (width,),
        "text.ln_final.bias": (width,),
    }
    layer: Shapes = {
        "ln_1.weight": (width,),
        "ln_1.bias": (width,),
        "ln_2.weight": (width,),
        "ln_2.bias": (width,),
        "attn.in_proj_weight": (3 * width, width),
        "attn.in_proj_bias": (3 * width,),
        "attn.out_proj.weight": (width, width),
        "attn.out_proj.bias": (width,),
        "mlp.c_fc.weight": (middle, width),
        "mlp.c_fc.bias": (middle,),
        "mlp.c_proj.weight": (width, middle),
        "mlp.c_proj.bias": (width,),
    }
    for number in range(sizes.num_hidden_layers):
        shapes |= {f"text.transformer.resblocks.{number}.{name}": shape for name, shape in layer.items()}
    return shapes


def _face_parser(parts: PulidParts) -> dict[str, Stored]:
    """The parser, and the two further heads of its training that the published file still has."""
    shapes = _shapes(parts.face_networks[0].state_dict())
    context, classes = shapes["cp.arm16.conv_atten.weight"][0], shapes["conv_out.conv_out.weight"][0]
    middle = context // 2
    norm = {f"conv.bn.{name}": (middle,) for name in ("weight", "bias", "running_mean", "running_var")}
    head = {"conv.conv.weight": (middle, context, 3, 3), **norm, "conv_out.weight": (classes, middle, 1, 1)}
    for name in ("conv_out16", "conv_out32"):
        shapes |= {f"{name}.{key}": shape for key, shape in head.items()}
    return _with_counters(shapes)


def _bases(parts: IcLightParts) -> dict[str, Content]:
    unet = _shapes(parts.unet.state_dict())
    unet["conv_in.weight"] = _with_inputs(unet["conv_in.weight"], 4)
    text = {f"text_model.{key.removeprefix('text_model.')}": t for key, t in parts.text_encoder.state_dict().items()}
    positions = {"text_model.embeddings.position_ids": Stored("I64", _positions_of(parts.text_encoder))}
    found = {}
    # The precision of realistic-vision-v5.1 is not stated: the larger of the two is taken.
    for name, dtype in (("realistic-vision-v5.1", "F32"), ("stable-diffusion-v1.5", "F16")):
        for part, tensors, seed in (
            ("unet/diffusion_pytorch_model", _all(unet, dtype), 51),
            ("vae/diffusion_pytorch_model", _all(_shapes(parts.vae.state_dict()), dtype), 52),
            ("text_encoder/model", _all(_shapes(text), dtype) | positions, 53),
        ):
            found[f"sd15/{name}/{part}.safetensors"] = Content(tensors, _PYTORCH, seed)
    return found


def _offsets(parts: IcLightParts) -> dict[str, Content]:
    unet = _shapes(parts.unet.state_dict())

    def offset(channels: int, seed: int) -> Content:
        shapes = unet | {"conv_in.weight": _with_inputs(unet["conv_in.weight"], channels)}
        return Content(_all(shapes, "F16"), seed=seed, scale=0.05)

    return {
        "ic-light/iclight_sd15_fc.safetensors": offset(8, 54),
        "ic-light/iclight_sd15_fcon.safetensors": offset(8, 55),
        "ic-light/iclight_sd15_fbc.safetensors": offset(12, 56),
    }


def _matting(parts: IcLightParts) -> dict[str, Content]:
    tensors = _with_counters(_shapes(parts.matting.state_dict()))
    return {"matting/rmbg-1.4.safetensors": Content(tensors, _PYTORCH, seed=61)}


def _with_inputs(shape: tuple[int, ...], channels: int) -> tuple[int, ...]:
    return shape[0], channels, *shape[2:]


def _with_counters(shapes: Shapes) -> dict[str, Stored]:
    """Single precision, and a counter for every batch norm."""
    counters = {key.removesuffix(".running_var") + _COUNTER for key in shapes if key.endswith(".running_var")}
    plain = {key: shape for key, shape in shapes.items() if not key.endswith(_COUNTER)}
    return _all(plain, "F32") | {key: Stored("I64", ()) for key in counters}


def _all(shapes: Mapping[str, tuple[int, ...]], dtype: str) -> dict[str, Stored]:
    return {key: Stored(dtype, shape) for key, shape in shapes.items()}


def _shapes(state: Mapping[str, Tensor]) -> Shapes:
    return {key: tuple(tensor.shape) for key, tensor in state.items()}
