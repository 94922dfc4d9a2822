"""The least that the large networks compute, as formulas of their shapes: nothing of the project runs here.

Counted are the multiplications of matrix products, convolutions and attention, each with its sum as 2 FLOP. What the
steps of a request have in common counts once a request: keys and values of texts and faces, embeddings of timesteps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.counts.roofline_small import bisenet, conv, eva_tower, id_encoder, linear, mlp, rmbg

Config = Mapping[str, Any]
"""A network's configuration, as diffusers and transformers write it."""
Level = tuple[int, int, int, int]
"""Height, width, channels and transformer layers of one level of a UNet, finest first."""


@dataclass(frozen=True)
class Request:
    """What a request is counted by: `evaluations` by the size (height, width) of the latents; `pictures` of each."""

    evaluations: Mapping[tuple[int, int], int]
    pictures: int = 1
    guided: bool = True

    @property
    def rows(self) -> int:
        """Rows of a batch of the UNet."""
        return self.pictures * (1 + self.guided)


def pulid_configs(parts: Any) -> dict[str, Config]:
    """The networks' configurations by the parameters of `pulid`; `parts` has them as attributes."""
    return {
        "unet": parts.unet.config,
        "vae": parts.vae.config,
        "clip_l": parts.clip_l.config.to_dict(),
        "clip_g": parts.clip_g.config.to_dict(),
    }


def pulid(unet: Config, vae: Config, clip_l: Config, clip_g: Config, request: Request) -> int:
    """A `pulid-lightning` request at full size: texts of one chunk, the face's networks, 10 ID tokens, the VAE.

    The two face models in ONNX files are not counted.
    """
    face = bisenet(512, 512) + eva_tower() + id_encoder()
    texts = 2 * (text_encoder(clip_l, layers_left_out=1) + text_encoder(clip_g))
    return face + texts + pulid_cached(unet, vae, request)


def pulid_cached(unet: Config, vae: Config, request: Request, id_tokens: int = 10) -> int:
    """The part of a `pulid-lightning` request that is left when texts and face are in the caches."""
    ((height, width),) = request.evaluations
    hoisted = request.rows * (contexts(unet, 77) + contexts(unet, id_tokens)) + _times(unet, request)
    decoding = request.pictures * vae_decode(vae, height, width)
    return hoisted + denoising(unet, request, 77, id_tokens) + decoding


def ic_light(unet: Config, vae: Config, text: Config, request: Request, matting: tuple[int, int]) -> int:
    """An `ic-light` request at full size, texts of one chunk, without a light source; `matting`: height, width in px.

    The subject is encoded once for each pass, each picture once between the passes, and decoded after both.
    """
    small, large = request.evaluations
    encoding = vae_encode(vae, *small) + (1 + request.pictures) * vae_encode(vae, *large)
    decoding = request.pictures * (vae_decode(vae, *small) + vae_decode(vae, *large))
    hoisted = 2 * contexts(unet, 77) + _times(unet, request)
    return rmbg(*matting) + 2 * text_encoder(text) + encoding + decoding + hoisted + denoising(unet, request, 77)


def denoising(unet: Config, request: Request, text_tokens: int, id_tokens: int = 0) -> int:
    """All evaluations of a request."""
    each = {size: evaluation(unet, *size, text_tokens, id_tokens) for size in request.evaluations}
    return sum(request.rows * count * each[size] for size, count in request.evaluations.items())


def evaluation(unet: Config, height: int, width: int, text_tokens: int, id_tokens: int = 0) -> int:
    """One row of one evaluation at latents of that size. With ID tokens each layer attends to them besides, and scores
    them once more for the share of the body's."""
    levels = list(_levels(unet, height, width))
    tokens = text_tokens, id_tokens
    total = conv(height, width, unet["in_channels"], levels[0][2])
    skips, channels = [levels[0][2]], levels[0][2]
    for at, level in enumerate(levels):
        for _ in range(unet["layers_per_block"]):
            total += _block(level, channels, *tokens)
            channels = level[2]
            skips.append(channels)
        if at + 1 < len(levels):
            total += conv(*levels[at + 1][:2], channels, channels)
            skips.append(channels)
    deepest = levels[-1][:3]
    # The middle has transformers even where the deepest level has none, as many layers as the last entry says.
    total += _block((*deepest, _depths(unet)[-1]), channels, *tokens) + _residual(*deepest, channels)
    for at, level in reversed(list(enumerate(levels))):
        for _ in range(unet["layers_per_block"] + 1):
            total += _block(level, channels + skips.pop(), *tokens)
            channels = level[2]
        total += conv(*levels[at - 1][:2], channels, channels) if at else 0
    return total + conv(height, width, channels, unet["out_channels"])


def contexts(unet: Config, tokens: int) -> int:
    """Keys and values of one row of `tokens` for all cross-attentions."""
    layers = unet["layers_per_block"]
    depths = [(2 * layers + 1) * depth for depth in _transformers(unet)]
    depths[-1] += _depths(unet)[-1]
    widths = unet["block_out_channels"]
    context = unet["cross_attention_dim"]
    return sum(2 * depth * linear(tokens, context, width) for depth, width in zip(depths, widths, strict=True))


def vae_encode(vae: Config, height: int, width: int) -> int:
    """One picture that becomes latents of that size, the posterior's mean and variance included."""
    widths, layers = vae["block_out_channels"], vae["layers_per_block"]
    scale = 2 ** (len(widths) - 1)
    rows, columns, channels = height * scale, width * scale, widths[0]
    total = conv(rows, columns, 3, channels)
    for at, wide in enumerate(widths):
        total += _residual(rows, columns, channels, wide) + (layers - 1) * _residual(rows, columns, wide)
        channels = wide
        if at + 1 < len(widths):
            rows, columns = rows // 2, columns // 2
            total += conv(rows, columns, wide, wide)
    latent = 2 * vae["latent_channels"]
    total += _vae_middle(height, width, channels) + conv(height, width, channels, latent)
    return total + conv(height, width, latent, latent, kernel=1)


def vae_decode(vae: Config, height: int, width: int) -> int:
    """One picture from latents of that size."""
    widths, layers = list(reversed(vae["block_out_channels"])), vae["layers_per_block"]
    latent, channels = vae["latent_channels"], widths[0]
    total = conv(height, width, latent, latent, kernel=1) + conv(height, width, latent, channels)
    total += _vae_middle(height, width, channels)
    for at, wide in enumerate(widths):
        total += _residual(height, width, channels, wide) + layers * _residual(height, width, wide)
        channels = wide
        if at + 1 < len(widths):
            height, width = 2 * height, 2 * width
            total += conv(height, width, wide, wide)
    return total + conv(height, width, channels, 3)


def text_encoder(config: Config, layers_left_out: int = 0, tokens: int = 77) -> int:
    """One row of a CLIP text encoder, its projection included where it has one. `layers_left_out`: at the end, where
    hidden states of a layer before the last are asked for, and nothing else."""
    width: int = config["hidden_size"]
    layers: int = config["num_hidden_layers"] - layers_left_out
    attending = 4 * linear(tokens, width, width) + attention(tokens, tokens, width)
    projected = config["architectures"] == ["CLIPTextModelWithProjection"]
    projection = linear(1, width, config["projection_dim"]) if projected else 0
    return layers * (attending + 2 * linear(tokens, width, config["intermediate_size"])) + projection


def attention(queries: int, keys: int, width: int) -> int:
    """Scores and weighted values, all heads together."""
    return 2 * linear(queries, width, keys)


def _levels(unet: Config, height: int, width: int) -> Iterator[Level]:
    for channels, depth in zip(unet["block_out_channels"], _transformers(unet), strict=True):
        yield height, width, channels, depth
        height, width = (height + 1) // 2, (width + 1) // 2


def _transformers(unet: Config) -> list[int]:
    """Layers of each transformer by level, 0 where a level has none."""
    kinds = zip(unet["down_block_types"], _depths(unet), strict=True)
    return [depth if kind == "CrossAttnDownBlock2D" else 0 for kind, depth in kinds]


def _depths(unet: Config) -> list[int]:
    depths = unet.get("transformer_layers_per_block", 1)
    return [depths] * len(unet["block_out_channels"]) if isinstance(depths, int) else list(depths)


def _block(level: Level, channels: int, text_tokens: int, id_tokens: int) -> int:
    height, width, wide, depth = level
    tokens = height * width
    looking = (
        attention(tokens, text_tokens, wide) + attention(tokens, id_tokens, wide) + linear(tokens, wide, id_tokens)
    )
    own = 4 * linear(tokens, wide, wide) + attention(tokens, tokens, wide)
    other = 2 * linear(tokens, wide, wide) + looking
    forward = linear(tokens, wide, 8 * wide) + linear(tokens, 4 * wide, wide)
    around = 2 * linear(tokens, wide, wide) if depth else 0
    return _residual(height, width, channels, wide) + around + depth * (own + other + forward)


def _residual(height: int, width: int, channels: int, wide: int | None = None) -> int:
    wide = wide or channels
    shortcut = conv(height, width, channels, wide, kernel=1) if channels != wide else 0
    return conv(height, width, channels, wide) + conv(height, width, wide, wide) + shortcut


def _vae_middle(height: int, width: int, channels: int) -> int:
    tokens = height * width
    attending = 4 * linear(tokens, channels, channels) + attention(tokens, tokens, channels)
    return 2 * _residual(height, width, channels) + attending


def _times(unet: Config, request: Request) -> int:
    """Embeddings of all timesteps and of what else the UNet is told, and what they add to each residual block."""
    widths, layers = unet["block_out_channels"], unet["layers_per_block"]
    wide, steps = 4 * widths[0], sum(request.evaluations.values())
    told = unet["addition_embed_type"] == "text_time"
    embedded = steps * mlp(1, widths[0], wide, wide)
    if told:
        embedded += request.rows * mlp(1, unet["projection_class_embeddings_input_dim"], wide, wide)
    blocks = sum((2 * layers + 1) * width for width in widths) + 2 * widths[-1]
    return embedded + linear(steps * (request.rows if told else 1), wide, blocks)
