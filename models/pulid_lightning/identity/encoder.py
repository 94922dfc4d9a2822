"""Identity encoders: face and EVA-CLIP embeddings to ID tokens (PuLID specification section 4).

`IDEncoder` is that of version 1; `IDFormer`, of version 1.1, has the layers of a Perceiver resampler (Alayrac et al.
2022, "Flamingo", appendix A).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.pulid_lightning.identity.eva_clip import TAPS
from models.runtime.load import empty, fill
from models.runtime.precision import identity_precision
from models.runtime.state_dicts import StateDict, shape_of

BODY_TOKENS: Final = 5
"""ID tokens that come from the embeddings; they are the first, and one for each of `TAPS` follows."""
_NEGATIVE_SLOPE: Final = 0.01
_HEAD_DIM: Final = 64


@dataclass(frozen=True)
class Identity:
    """ID tokens [1, tokens, context width] for the two branches of classifier-free guidance."""

    cond: Tensor
    uncond: Tensor


class IdentityEncoder(nn.Module):
    """Base of both versions of the encoder."""

    def __init__(self, id_width: int, hidden: int) -> None:
        """`id_width`: of the condition vector; `hidden`: of the EVA-CLIP hidden states."""
        super().__init__()
        self.id_width, self.hidden = id_width, hidden

    @abstractmethod
    def forward(self, id_cond: Tensor, hidden: list[Tensor]) -> Tensor:
        """Encode `id_cond` and five `hidden`, one for each of `TAPS`, into ID tokens [n, tokens, context width]."""

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights, and of the inputs."""
        return next(self.parameters()).dtype

    def zeros(self, tokens: int, device: torch.device) -> tuple[Tensor, list[Tensor]]:
        """The unconditional input: zeros, `tokens` hidden tokens per tap."""
        hidden = torch.zeros(1, tokens, self.hidden, device=device, dtype=self.dtype)
        return hidden.new_zeros(1, self.id_width), [hidden] * len(TAPS)


class IDEncoder(IdentityEncoder):
    """PuLID v1's encoder: multilayer perceptrons only."""

    def __init__(self, id_width: int, body: tuple[int, int], hidden: int, context: int) -> None:
        """Widths: of the condition, inside the body MLP, of the EVA-CLIP hidden states, of an ID token."""
        super().__init__(id_width, hidden)
        self.body = mlp(id_width, *body, context * BODY_TOKENS)
        for tap in range(len(TAPS)):
            self.add_module(f"mapping_{tap}", mlp(hidden, hidden, hidden, context))
            self.add_module(f"mapping_patch_{tap}", mlp(hidden, hidden, hidden, context))

    def forward(self, id_cond: Tensor, hidden: list[Tensor]) -> Tensor:
        """Encode `id_cond` [n, id width] and five `hidden` [n, 1 + patches, width] into [n, 10, context width]."""
        body: Tensor = self.body(id_cond)
        tokens = [body.view(len(body), BODY_TOKENS, -1)]
        for tap, states in enumerate(hidden):
            whole = self.get_submodule(f"mapping_{tap}")(states[:, :1])
            patches = self.get_submodule(f"mapping_patch_{tap}")(states[:, 1:])
            tokens.append(whole + patches.mean(1, keepdim=True))
        return torch.cat(tokens, 1)


def mlp(c_in: int, first: int, second: int, c_out: int) -> nn.Sequential:
    """Three linear layers, the first two normalised and followed by a leaky ReLU: [..., c_in] to [..., c_out]."""
    return nn.Sequential(
        nn.Linear(c_in, first),
        nn.LayerNorm(first),
        nn.LeakyReLU(_NEGATIVE_SLOPE),
        nn.Linear(first, second),
        nn.LayerNorm(second),
        nn.LeakyReLU(_NEGATIVE_SLOPE),
        nn.Linear(second, c_out),
    )


def load_id_encoder(state: StateDict, device: torch.device) -> IDEncoder:
    """Build the encoder that `state` fits, in `identity_precision`; raises `WeightsError`."""
    first, id_width = shape_of(state, "body.0.weight")
    context, hidden = shape_of(state, "mapping_0.6.weight")
    body = first, shape_of(state, "body.3.weight")[0]
    encoder = empty(lambda: IDEncoder(id_width, body, hidden, context))
    fill(encoder, state, device, identity_precision(device))
    return encoder


def id_condition(embedding: Tensor, class_embedding: Tensor) -> Tensor:
    """Join the raw ArcFace embedding [1, 512] and the normalised class embedding [1, m] to [1, 512 + m]."""
    return torch.cat((embedding, class_embedding), -1)


@dataclass(frozen=True)
class IDFormerSizes:
    """Widths: of the condition, the vision tower, the tokens inside, an ID token, one head. Then the counts."""

    id_width: int
    hidden: int
    dim: int
    context: int
    head_dim: int
    heads: int
    queries: int
    body_tokens: int
    depth: int


class IDFormer(IdentityEncoder):
    """PuLID v1.1's encoder: learned tokens attend to the embeddings and, per tap, to EVA-CLIP's hidden states."""

    def __init__(self, sizes: IDFormerSizes) -> None:
        """Build an untrained encoder; `sizes.depth` is a multiple of the number of taps."""
        super().__init__(sizes.id_width, sizes.hidden)
        self._dim = sizes.dim
        self.latents = nn.Parameter(torch.zeros(1, sizes.queries, sizes.dim))
        self.proj_out = nn.Parameter(torch.zeros(sizes.dim, sizes.context))
        widths = sizes.hidden, sizes.hidden
        self.id_embedding_mapping = mlp(sizes.id_width, *widths, sizes.dim * sizes.body_tokens)
        for tap in range(len(TAPS)):
            self.add_module(f"mapping_{tap}", mlp(sizes.hidden, *widths, sizes.dim))
        self.layers = nn.ModuleList(
            nn.ModuleList((_Attention(sizes.dim, sizes.heads, sizes.head_dim), _feed_forward(sizes.dim)))
            for _ in range(sizes.depth)
        )

    def forward(self, id_cond: Tensor, hidden: list[Tensor]) -> Tensor:
        """Encode `id_cond` [n, id width] and five `hidden` [n, 1 + patches, width] into [n, queries, context width].

        Several pictures of one face: `id_cond` [n, pictures, id width], `hidden` side by side along the tokens.
        """
        body: Tensor = self.id_embedding_mapping(id_cond).view(len(id_cond), -1, self._dim)
        tokens = torch.cat((self.latents.expand(len(id_cond), -1, -1), body), 1)
        per_tap = len(self.layers) // len(TAPS)
        for position, layer in enumerate(self.layers):
            tap, first = divmod(position, per_tap)
            if first == 0:
                context = torch.cat((body, self.get_submodule(f"mapping_{tap}")(hidden[tap])), 1)
            attention, feed_forward = layer.children()
            tokens = tokens + attention(context, tokens)
            tokens = tokens + feed_forward(tokens)
        return tokens[:, : self.latents.shape[1]] @ self.proj_out


class _Attention(nn.Module):
    """From the tokens to a context and to themselves."""

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self._heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, heads * head_dim, bias=False)
        self.to_kv = nn.Linear(dim, 2 * heads * head_dim, bias=False)
        self.to_out = nn.Linear(heads * head_dim, dim, bias=False)

    def forward(self, context: Tensor, tokens: Tensor) -> Tensor:
        context, tokens = self.norm1(context), self.norm2(tokens)
        key, value = self.to_kv(torch.cat((context, tokens), 1)).chunk(2, -1)
        query, key, value = (
            x.unflatten(-1, (self._heads, -1)).transpose(1, 2) for x in (self.to_q(tokens), key, value)
        )
        attended: Tensor = self.to_out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        return attended


def _feed_forward(dim: int) -> nn.Sequential:
    width = 4 * dim
    return nn.Sequential(
        nn.LayerNorm(dim), nn.Linear(dim, width, bias=False), nn.GELU(), nn.Linear(width, dim, bias=False)
    )


def load_id_former(state: StateDict, device: torch.device, head_dim: int = _HEAD_DIM) -> IDFormer:
    """Build the encoder that `state` fits, in `identity_precision`; raises `WeightsError`."""
    former = empty(lambda: IDFormer(_sizes(state, head_dim)))
    fill(former, state, device, identity_precision(device))
    return former


def _sizes(state: StateDict, head_dim: int) -> IDFormerSizes:
    dim, context = shape_of(state, "proj_out")
    hidden, id_width = shape_of(state, "id_embedding_mapping.0.weight")
    return IDFormerSizes(
        id_width=id_width,
        hidden=hidden,
        dim=dim,
        context=context,
        head_dim=head_dim,
        heads=shape_of(state, "layers.0.0.to_q.weight")[0] // head_dim,
        queries=shape_of(state, "latents")[1],
        body_tokens=shape_of(state, "id_embedding_mapping.6.weight")[0] // dim,
        depth=1 + max(int(key.split(".")[1]) for key in state if key.startswith("layers.")),
    )
