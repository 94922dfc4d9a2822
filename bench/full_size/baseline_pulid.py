"""`pulid-lightning` without our own forward pass: what ours is measured and checked against.

Both ways run diffusers' UNet with attention processors that read the ID tokens anew in every layer of every call, from
the formulas of PuLID specification sections 5 and 7. `reference` is the published way: a call for each branch of
guidance, all of the identity's arithmetic in float32, a VAE in float32. `diffusers` is one call for both branches, with
what need not be float32 in the network's precision. Texts are of one chunk; the body weighting is that of a whole
picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Protocol

import torch
import torch.nn.functional as F
import torchsde
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor

Evaluate = Callable[[Tensor, int], Tensor]
"""Scaled latents [n, 4, h, w] and a timestep give the guided noise [n, 4, h, w], float32."""

GUIDANCE: Final = 1.2
WEIGHT: Final = 0.8
_BODY_TOKENS: Final = 5
_ZERO_TOKENS: Final = 8
_STEPS: Final = 4


class Weights(Protocol):
    """The adapter's weights of one layer, [layer width, context width] each."""

    @property
    def key(self) -> Tensor:
        """Makes keys of ID tokens."""
        ...

    @property
    def value(self) -> Tensor:
        """Makes values of ID tokens."""
        ...


@dataclass(frozen=True)
class PulidRequest:
    """A request that is ready for the UNet, face style `high-fidelity`.

    Unconditional row first: `tokens` [2, 77, context width], `pooled` [2, width], `identity` [2, 10, context width].
    `size` is (width, height) in px.
    """

    tokens: Tensor
    pooled: Tensor
    identity: Tensor
    size: tuple[int, int]
    pictures: int
    seed: int


class SelfAttention(AttnProcessor2_0):  # type: ignore[misc]  # untyped
    """Diffusers' own processor; it takes the identity's argument, which all processors of a UNet are passed."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        id_tokens: Tensor | None = None,  # noqa: ARG002  # diffusers looks for the name
    ) -> Tensor:
        """Attend; the ID tokens are for others."""
        return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)  # type: ignore[no-any-return]


class CrossAttention:
    """Cross-attention to text and to ID tokens, joined by `ortho_v2`.

    `wide` says whether the share of the body tokens is computed in float32 from the scores on.
    """

    def __init__(self, weights: Weights, wide: bool) -> None:
        """Take the adapter's weights of this layer."""
        self.weights, self.wide = weights, wide

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,  # noqa: ARG002  # texts are equally long
        temb: Tensor | None = None,  # noqa: ARG002  # part of the protocol
        *,
        id_tokens: Tensor,
    ) -> Tensor:
        """Attend to `encoder_hidden_states` [rows, tokens, width] and `id_tokens` [rows, tokens, width]."""
        query = attn.to_q(hidden_states)
        base = _attend(query, attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states), attn.heads)
        key, value = F.linear(id_tokens, self.weights.key), F.linear(id_tokens, self.weights.value)
        text, delta = base.float(), _attend(query, key, value, attn.heads).float()
        along = (text * delta).sum(1, keepdim=True) / (text * text).sum(1, keepdim=True) * text
        delta = delta + (_body_share(query, key, self.wide) - 1) * along
        return attn.to_out[0]((text + WEIGHT * delta).to(base.dtype))  # type: ignore[no-any-return]


def install(unet: Any, weights: Mapping[int, Weights], wide: bool) -> None:
    """Give the UNet the processors above; `weights` go by the layer's place among all of the UNet's processors."""
    processors = {
        name: CrossAttention(weights[index], wide) if index in weights else SelfAttention()
        for index, name in enumerate(unet.attn_processors)
    }
    unet.set_attn_processor(processors)


def separate(unet: Callable[..., Any], request: PulidRequest) -> Evaluate:
    """`reference`: one call of the UNet for each branch of guidance."""
    branches = [unet_inputs(request, slice(0, 1)), unet_inputs(request, slice(1, 2))]

    def evaluate(latents: Tensor, timestep: int) -> Tensor:
        return _guided(*(unet(latents, timestep, return_dict=False, **inputs)[0] for inputs in branches))

    return evaluate


def batched(unet: Callable[..., Any], request: PulidRequest) -> Evaluate:
    """`diffusers`: both branches in one call."""
    inputs = unet_inputs(request, slice(0, 2))

    def evaluate(latents: Tensor, timestep: int) -> Tensor:
        noise = unet(latents.repeat(2, 1, 1, 1), timestep, return_dict=False, **inputs)[0]
        return _guided(*noise.chunk(2))

    return evaluate


def unet_inputs(request: PulidRequest, rows: slice) -> dict[str, Any]:
    """What the UNet is called with besides latents and timestep, for these of the request's two rows."""
    width, height = request.size
    tokens, pooled = (part[rows].repeat_interleave(request.pictures, 0) for part in (request.tokens, request.pooled))
    identity = F.pad(request.identity[rows].to(tokens), (0, 0, 0, _ZERO_TOKENS))
    sizes = tokens.new_tensor([[height, width, 0, 0, height, width]]).repeat(len(tokens), 1)
    return {
        "encoder_hidden_states": tokens,
        "added_cond_kwargs": {"text_embeds": pooled, "time_ids": sizes},
        "cross_attention_kwargs": {"id_tokens": identity.repeat_interleave(request.pictures, 0)},
    }


def draw_latents(evaluate: Evaluate, request: PulidRequest) -> Tensor:
    """DPM-Solver++ (SDE) over 4 steps of Karras sigmas, 7 evaluations (specification section 7): [n, 4, h, w]."""
    table = _training_sigmas()
    sigmas, device = _karras(table), request.tokens.device
    shape = (request.pictures, 4, request.size[1] // 8, request.size[0] // 8)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(request.seed)).to(device)
    x = x * (1 + sigmas[0] ** 2).sqrt()
    path = torchsde.BrownianTree(sigmas[-1], torch.zeros(shape), sigmas[0], entropy=request.seed)
    # The path rounds its own end, and must not be asked beyond.
    beginning = round(float(sigmas[0]), 6)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        timestep = int((table.log() - sigma.log()).abs().argmin())
        return x - sigma * evaluate((x / (sigma**2 + 1).sqrt()).to(request.tokens.dtype), timestep)

    def step(x: Tensor, denoised: Tensor, start: Tensor, end: Tensor) -> Tensor:
        # Through the logarithm, as k-diffusion passes them on: the path's values hang on the last bit.
        start, end = start.log().exp(), end.log().exp()
        up = torch.minimum(end, (end**2 * (start**2 - end**2) / start**2).sqrt())
        down = (end**2 - up**2).sqrt()
        noise: Tensor = (path(float(end), min(float(start), beginning)) / -(start - end).sqrt()).to(device)
        return down / start * x + (1 - down / start) * denoised + up * noise

    for sigma, following in pairwise(sigmas):
        middle = (sigma.log() + (following.log() - sigma.log()) * 0.5).exp()
        halfway = step(x, denoise(x, sigma), sigma, middle)
        x = step(x, denoise(halfway, middle), sigma, following)
    return denoise(x, sigmas[-1])


def decode(vae: Any, latents: Tensor) -> Tensor:
    """Pictures [n, 8h, 8w, 3], 8 bit, on the host; in the VAE's precision."""
    decoded = [
        vae.decode((row / vae.config.scaling_factor).to(vae.dtype), return_dict=False)[0] for row in latents[:, None]
    ]
    unit = ((torch.cat(decoded).float() + 1) / 2).clamp(0, 1)
    return (unit * 255).to(torch.uint8).permute(0, 2, 3, 1).cpu()


def embed(ids: Tensor, clip_l: Any, clip_g: Any) -> tuple[Tensor, Tensor]:
    """Token ids [rows, 77] give tokens [rows, 77, context width] and pooled [rows, width] (specification section 6)."""
    first, second = (encoder(ids, output_hidden_states=True) for encoder in (clip_l, clip_g))
    return torch.cat((first.hidden_states[-2], second.hidden_states[-2]), -1), second.text_embeds


def _guided(uncond: Tensor, cond: Tensor) -> Tensor:
    return uncond.float() + GUIDANCE * (cond.float() - uncond.float())


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    query, key, value = (x.view(*x.shape[:2], heads, -1).transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def _body_share(query: Tensor, key: Tensor, wide: bool) -> Tensor:
    scores = query.float() @ key.float().mT if wide else (query @ key.mT).float()
    return scores.softmax(-1)[..., :_BODY_TOKENS].sum(-1).mean(1)[:, None, None]


def _training_sigmas() -> Tensor:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, 0)
    return ((1 - kept) / kept).sqrt().float()


def _karras(table: Tensor) -> Tensor:
    low, high = float(table[0]) ** (1 / 7), float(table[-1]) ** (1 / 7)
    rising: Tensor = high + torch.linspace(0, 1, _STEPS) * (low - high)
    return rising**7
