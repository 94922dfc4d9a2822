"""Cross-attention to the text plus attention to the identity (PuLID specification section 5).

Keys and values of the ID tokens are computed once per request and layer, and are inputs of every UNet call. The
specification's three projections (neutral, ortho, ortho_v2) are one formula with a mask as an input, so that one
compiled UNet serves all: the identity's attention `delta` minus `m` times its projection onto the text's attention,
where `m` is the attention weight of the tokens that `ortho_mask` marks.
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
from models.pulid_lightning.options import BodyWeighting
from models.runtime.precision import bmm_to_float32
from models.runtime.projections import project
from models.runtime.unet import TextContext, attention, cross_attentions, split_heads

FaceStyle = Literal["high-fidelity", "stylized"]
OrthoMode = Literal["neutral", "ortho", "ortho_v2"]
"""How much of the identity's projection onto the text's attention is subtracted: none, all, or all but the attention
weight of the body tokens."""
WEIGHT: Final = 0.8
_PROCESSOR: Final = ".processor"


@dataclass(frozen=True)
class Method:
    """How the identity is added; `num_zero` zero tokens are appended to the ID tokens."""

    num_zero: int
    projection: OrthoMode
    body_weighting: BodyWeighting = "comfyui"


NEUTRAL: Final = Method(num_zero=0, projection="neutral")
METHODS: Final[dict[FaceStyle, Method]] = {
    "high-fidelity": Method(num_zero=8, projection="ortho_v2"),
    "stylized": Method(num_zero=16, projection="ortho"),
}


class IdentityContext(NamedTuple):
    """Keys and values of one cross-attention: of the text, and of the identity.

    `key`, `value`: [rows, ID tokens, width], the values times the identity's weight. `ortho_mask`: float32 [1 or heads,
    1, ID tokens], -1 for the tokens whose attention weight scales the projection that is subtracted, else 0. One head:
    the weight is averaged over the queries; the layer's heads: it is per query.
    """

    text: TextContext
    key: Tensor
    value: Tensor
    ortho_mask: Tensor


def layer_numbers(unet: Any, projections: Mapping[int, Projection]) -> tuple[int, ...]:
    """The adapter's layer numbers of the UNet's cross-attentions, in order of evaluation.

    An adapter numbers layers by their position in `attn_processors`. Raises `WeightsError` unless `projections` cover
    exactly these layers.
    """
    names = (name.removesuffix(_PROCESSOR) for name in unet.attn_processors)
    numbers = {unet.get_submodule(name): number for number, name in enumerate(names)}
    layers = tuple(numbers[layer] for layer in cross_attentions(unet))
    if set(layers) != set(projections):
        raise WeightsError(f"The adapter has {len(projections)} layers that are not the UNet's {len(layers)}.")
    return layers


def check_projections(unet: Any, projections: Mapping[int, Projection]) -> None:
    """Raise `WeightsError` unless `projections` cover the UNet's cross-attentions, each with the layer's width."""
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
    """One context per layer: unconditional rows of all identities, then the conditional ones, expanded by `rows`.

    `projections` and `heads`, the numbers of heads, are in the order of `texts`, one for each layer.
    """
    tokens = torch.cat([identity.uncond for identity in identities] + [identity.cond for identity in identities])
    # The projections have no bias: zero tokens are zero keys and values.
    tokens = F.pad(tokens, (0, 0, 0, method.num_zero))
    like = projections[0].key
    keys = project(tokens.to(like), [projection.key for projection in projections], rows)
    values = project((weight * tokens).to(like), [projection.value for projection in projections], rows)
    # One tensor for all layers with the same number of heads: it is copied, and compiled, as one input.
    ortho_mask = cache(lambda heads: _ortho_mask(method, tokens.shape[1], heads).to(like.device))
    masks = map(ortho_mask, heads if method.body_weighting == "official" else [1] * len(texts))
    return tuple(map(IdentityContext, texts, keys, values, masks))


def attend_with_identity(query: Tensor, context: IdentityContext, heads: int) -> Tensor:
    """Attention to the text plus that to the identity, for `models.runtime.unet.evaluate`."""
    text = attention(query, *context.text[:2], heads, context.text.bias)
    delta, dot, square, factor = _identity_and_sums(query, text, context, heads)
    # Per channel: one minus, or plus the factor times, the coefficient of the projection onto the text's attention.
    kept = torch.addcmul(square, factor, dot) / square
    return torch.addcmul(delta.float(), text.float(), kept).to(query.dtype)


def _identity_and_sums(
    query: Tensor, text: Tensor, context: IdentityContext, heads: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The identity's attention; over all queries, it times `text`, and `text` squared; and `_ortho_factor`."""
    if _kernel_takes(query, context, heads):
        # Only here is Triton needed, which machines without a GPU may lack.
        from models.pulid_lightning.identity.attention_kernel import attend_and_sum

        delta, parts = attend_and_sum(query, context.key, context.value, text, context.ortho_mask.flatten(), heads)
        dot, square, factor = torch.split(parts.sum(1, keepdim=True), [query.shape[2], query.shape[2], 1], 2)
        return delta, dot, square, factor / query.shape[1]
    delta = attention(query, context.key, context.value, heads)
    # Sums over thousands of tokens overflow in half precision. One reduction of both products: compiled, each one of
    # its own would be a kernel more.
    both = torch.stack((delta, text)).float()
    dot, square = (both * both[1]).sum(2, keepdim=True).unbind()
    return delta, dot, square, _ortho_factor(query, context)


def _kernel_takes(query: Tensor, context: IdentityContext, heads: int) -> bool:
    """Whether the compiler is to call the kernel: in half precision on CUDA, and with one weight for all queries."""
    width = query.shape[2] // heads
    fits = width >= 16 and width & (width - 1) == 0 and context.key.shape[1] <= 64
    averaged = len(context.ortho_mask) == 1
    return torch.compiler.is_compiling() and query.is_cuda and query.dtype.itemsize == 2 and fits and averaged


def _ortho_factor(query: Tensor, context: IdentityContext) -> Tensor:
    """Minus the attention weight of the masked tokens: float32 [rows, 1 or queries, 1].

    The scores are unscaled, as in both references, and reach thousands, where half precision knows whole numbers only.
    No fused attention kernel takes heads as wide as the layer at any speed; the map of so few keys is small.
    """
    heads = len(context.ortho_mask)
    query, key = (split_heads(x, heads).flatten(0, 1) for x in (query, context.key))
    weights = bmm_to_float32(query, key.transpose(1, 2)).softmax(-1)
    shares = (weights.view(-1, heads, *weights.shape[1:]) * context.ortho_mask).sum(-1)
    return shares.mean(2, keepdim=True) if heads == 1 else shares.mean(1)[..., None]


def _ortho_mask(method: Method, tokens: int, heads: int) -> Tensor:
    ortho_mask = torch.full((heads, 1, tokens), -1.0)
    ortho_mask[..., : {"neutral": tokens, "ortho": 0, "ortho_v2": BODY_TOKENS}[method.projection]] = 0
    return ortho_mask
