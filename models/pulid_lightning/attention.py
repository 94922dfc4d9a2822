"""Cross-attention that also looks at the identity (PuLID specification section 5).

For every layer the identity's keys and values are computed once per request, and travel with every call of the UNet.
The specification's three ways to add the identity are one formula here, so that one compiled UNet serves all: of the
identity's attention `delta` as much of the part along the text's is taken away as `removal` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.errors import WeightsError
from models.pulid_lightning.adapter import Projection
from models.pulid_lightning.identity.encoder import BODY_TOKENS, Identity
from models.runtime.unet import TextContext, attention, cross_attentions, repeat, split_heads

FaceStyle = Literal["high-fidelity", "stylized"]
Removal = Literal["neutral", "ortho", "ortho_v2"]
"""Which part of the identity's attention along the text's is removed: none, all, or all but the body's share."""
BodyShare = Literal["comfyui", "official"]
"""How `ortho_v2` measures the body's share: as the ComfyUI port does, and so the hosted model, or as the original."""
WEIGHT: Final = 0.8
_PROCESSOR: Final = ".processor"
_ALIGNED: Final = 8
"""Width of the removals: attention kernels want a multiple of so many."""


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


class IdentityContext(NamedTuple):
    """What one cross-attention looks at: the text, and the identity.

    `key`, `value`: [rows, ID tokens, width], the values times the identity's weight. `removal`: [1 or heads, ID tokens,
    8], -1 for the tokens of which a share of attention removes what lies along the text, else 0; all columns are equal.
    With one head the share is that of a whole picture, with the layer's heads it is each query's own.
    """

    text: TextContext
    key: Tensor
    value: Tensor
    removal: Tensor


def layer_numbers(unet: Any, projections: Mapping[int, Projection]) -> tuple[int, ...]:
    """The adapter's numbers of the UNet's cross-attentions, in the order in which they are evaluated.

    An adapter counts attentions as `attn_processors` lists them. Raises `WeightsError` unless `projections` are for
    exactly these layers.
    """
    names = (name.removesuffix(_PROCESSOR) for name in unet.attn_processors)
    numbers = {unet.get_submodule(name): number for number, name in enumerate(names)}
    layers = tuple(numbers[layer] for layer in cross_attentions(unet))
    if set(layers) != set(projections):
        raise WeightsError(f"The adapter has {len(projections)} layers that are not the UNet's {len(layers)}.")
    return layers


def check_projections(unet: Any, projections: Mapping[int, Projection]) -> None:
    """Raise `WeightsError` unless `projections` are for the UNet's cross-attentions, each as wide as it is."""
    for number, layer in zip(layer_numbers(unet, projections), cross_attentions(unet), strict=True):
        found, due = projections[number].key.shape[0], layer.to_k.weight.shape[0]
        if found != due:
            raise WeightsError(f"layer {number} is {found} wide where the UNet's is {due}.")


def identity_contexts(
    texts: Sequence[TextContext],
    identities: Sequence[Identity],
    projections: Sequence[Projection],
    heads: Sequence[int],
    method: Method,
    rows: Tensor | None = None,
    weight: float = WEIGHT,
) -> tuple[IdentityContext, ...]:
    """Put identities beside the texts: their unconditional rows, then the conditional ones, repeated for `rows`.

    `projections` and numbers of `heads` belong to the same layers as `texts`.
    """
    tokens = torch.cat([identity.uncond for identity in identities] + [identity.cond for identity in identities])

    def project(projection: Tensor) -> Tensor:
        # The projections have no bias: zero tokens are zero keys and values.
        return repeat(F.pad(F.linear(tokens.to(projection), projection), (0, 0, 0, method.num_zero)), rows)

    # One tensor for all layers that have as many heads: what is one input is copied and compiled as one.
    removal = cache(lambda heads: _removal(method, tokens.shape[1] + method.num_zero, heads).to(texts[0].key))

    def context(text: TextContext, projection: Projection, heads: int) -> IdentityContext:
        value = weight * project(projection.value)
        return IdentityContext(text, project(projection.key), value, removal(heads))

    heads = heads if method.body_share == "official" else [1] * len(texts)
    return tuple(map(context, texts, projections, heads))


def attend_with_identity(query: Tensor, context: IdentityContext, heads: int) -> Tensor:
    """Attention to the text plus that to the identity, for `models.runtime.unet.evaluate`."""
    # Sums over thousands of tokens overflow in half precision.
    text = attention(query, *context.text[:2], heads, context.text.bias).float()
    delta = attention(query, context.key, context.value, heads).float()
    # How much of the text is in delta, channel by channel, over the token axis.
    along = (text * delta).sum(1, keepdim=True) / (text * text).sum(1, keepdim=True)
    return (text + delta).addcmul(text, _removed(query, context) * along).to(query.dtype)


def _removed(query: Tensor, context: IdentityContext) -> Tensor:
    """Minus the share of attention that counts for removal: [rows, 1 or queries, 1].

    Unscaled, unlike the attention itself: both references have it so. As an attention of its own, so that the map of
    scores never lies in memory, and is summed up in float32.
    """
    heads = len(context.removal)
    query, key = split_heads(query, heads), split_heads(context.key, heads)
    value = context.removal.expand(len(query), -1, -1, -1)
    shares = F.scaled_dot_product_attention(query, key, value, scale=1.0)[..., 0].float().mean(1)
    return (shares.mean(1, keepdim=True) if heads == 1 else shares)[..., None]


def _removal(method: Method, tokens: int, heads: int) -> Tensor:
    removal = torch.full((heads, tokens, _ALIGNED), -1.0)
    removal[:, : {"neutral": tokens, "ortho": 0, "ortho_v2": BODY_TOKENS}[method.projection]] = 0
    return removal
