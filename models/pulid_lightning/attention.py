"""Cross-attention that also looks at the identity (PuLID specification section 5).

The identity's keys and values are computed once per request and travel with every call of the UNet, as
`cross_attention_kwargs={"identity": …}`: the processors keep no state, so nothing is left behind by an aborted run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn

from models.errors import WeightsError
from models.pulid_lightning.adapter import Projection
from models.pulid_lightning.identity import BODY_TOKENS, Identity

FaceStyle = Literal["high-fidelity", "stylized"]
Removal = Literal["neutral", "ortho", "ortho_v2"]
"""Which part of the identity's attention along the text's is removed: none, all, or all but the body's share."""
BodyShare = Literal["comfyui", "official"]
"""How `ortho_v2` measures the body's share: as the ComfyUI port does, and so the hosted model, or as the original."""
WEIGHT: Final = 0.8
_CROSS_ATTENTION: Final = "attn2.processor"


@dataclass(frozen=True)
class Method:
    """How the identity is added, and beside how many zero tokens."""

    num_zero: int
    projection: Removal
    body_share: BodyShare = "comfyui"


NEUTRAL: Final = Method(num_zero=0, projection="neutral")
METHODS: Final[dict[FaceStyle, Method]] = {
    "high-fidelity": Method(num_zero=8, projection="ortho_v2"),
    "stylized": Method(num_zero=16, projection="ortho"),
}


@dataclass(frozen=True)
class IdentityAttention:
    """The identity as every layer needs it.

    `layers`: (keys, values) by processor index, each [rows, ID tokens, inner width], one row per row of the UNet's
    batch.
    """

    layers: Mapping[int, tuple[Tensor, Tensor]]
    method: Method
    weight: float = WEIGHT


def project_identity(
    identity: Identity, projections: Mapping[int, Projection], method: Method, pictures: int
) -> IdentityAttention:
    """Project the ID tokens for every layer: `pictures` unconditional rows, then as many conditional ones."""
    tokens = torch.cat((identity.uncond, identity.cond))

    def rows(weight: Tensor) -> Tensor:
        # The projections have no bias: zero tokens are zero keys and values.
        projected = F.pad(F.linear(tokens.to(weight), weight), (0, 0, 0, method.num_zero))
        return projected.repeat_interleave(pictures, 0)

    layers = {layer: (rows(weights.key), rows(weights.value)) for layer, weights in projections.items()}
    return IdentityAttention(layers, method)


class SelfAttention(AttnProcessor2_0):  # type: ignore[misc]  # diffusers is untyped
    """Plain self-attention that accepts, and does not use, the identity meant for its neighbours."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        identity: IdentityAttention | None = None,  # noqa: ARG002  # diffusers warns of arguments it cannot pass on
    ) -> Tensor:
        """Attend from `hidden_states` [rows, tokens, width] to itself."""
        attended: Tensor = super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        return attended


class CrossAttention:
    """Cross-attention to the text, plus the identity where one is given."""

    def __init__(self, layer: int) -> None:
        """Take the index under which this layer finds its keys and values."""
        self.layer = layer

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,  # noqa: ARG002  # the signature is diffusers'
        identity: IdentityAttention | None = None,
    ) -> Tensor:
        """Attend from `hidden_states` [rows, tokens, width] to the text [rows, text tokens, context width]."""
        query = attn.to_q(hidden_states)
        key, value = attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states)
        if attention_mask is not None:
            attention_mask = attention_mask[:, None]
        attended = _attend(query, key, value, attn.heads, attention_mask)
        if identity is not None:
            attended = _with_identity(attended, query, identity, self.layer, attn.heads)
        projected: Tensor = attn.to_out[0](attended)
        return projected


def install(unet: nn.Module, layers: set[int]) -> None:
    """Give `unet` the processors above; raises `WeightsError` unless `layers` are exactly its cross-attentions."""
    names: list[str] = list(unet.attn_processors)  # type: ignore[arg-type]
    cross = {index for index, name in enumerate(names) if name.endswith(_CROSS_ATTENTION)}
    if cross != layers:
        raise WeightsError(f"The adapter has {len(layers)} layers that are not the UNet's {len(cross)}.")
    processors: dict[str, Any] = {
        name: CrossAttention(index) if index in cross else SelfAttention() for index, name in enumerate(names)
    }
    unet.set_attn_processor(processors)  # type: ignore[operator]


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    query, key, value = (_split(x, heads) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)


def _split(x: Tensor, heads: int) -> Tensor:
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def _with_identity(base: Tensor, query: Tensor, identity: IdentityAttention, layer: int, heads: int) -> Tensor:
    key, value = identity.layers[layer]
    # Sums over thousands of tokens overflow in half precision.
    text, delta = base.float(), _attend(query, key, value, heads).float()
    if identity.method.projection == "ortho":
        delta = delta - _along(text, delta)
    elif identity.method.projection == "ortho_v2":
        share = _share_of_picture(query, key) if identity.method.body_share == "comfyui" else _share(query, key, heads)
        delta = delta + (share - 1) * _along(text, delta)
    return (text + identity.weight * delta).to(base.dtype)


def _along(text: Tensor, delta: Tensor) -> Tensor:
    """The part of `delta` along `text`, channel by channel, over the token axis."""
    return (text * delta).sum(1, keepdim=True) / (text * text).sum(1, keepdim=True) * text


def _share_of_picture(query: Tensor, key: Tensor) -> Tensor:
    """Share of attention that the body tokens get, all heads at once, averaged over the queries: [rows, 1, 1]."""
    return _share(query, key, heads=1).mean(1, keepdim=True)


def _share(query: Tensor, key: Tensor, heads: int) -> Tensor:
    """Share of attention that the body tokens get of every query, averaged over the heads: [rows, queries, 1].

    Unscaled, unlike the attention itself: both references have it so.
    """
    scores = _split(query.float(), heads) @ _split(key.float(), heads).transpose(2, 3)
    return scores.softmax(-1)[..., :BODY_TOKENS].sum(-1).mean(1)[..., None]
