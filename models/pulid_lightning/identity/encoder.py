"""The identity encoder: from what the face networks say to the ID tokens of the attention (specification section 4).

Here is version 1's; `models.pulid_lightning.identity.id_former` holds version 1.1's.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from models.pulid_lightning.identity.eva_clip import TAPS
from models.runtime.load import empty, fill
from models.runtime.state_dicts import StateDict, shape_of

BODY_TOKENS: Final = 5
"""ID tokens that come from the embeddings; they are the first, and one for each of `TAPS` follows."""
_NEGATIVE_SLOPE: Final = 0.01


@dataclass(frozen=True)
class Identity:
    """ID tokens [1, tokens, context width] for the two branches of classifier-free guidance."""

    cond: Tensor
    uncond: Tensor


class IdentityEncoder(nn.Module):
    """What both versions of the encoder have in common."""

    def __init__(self, id_width: int, hidden: int) -> None:
        """Take the widths: of the condition, and of the vision tower."""
        super().__init__()
        self.id_width, self.hidden = id_width, hidden

    @abstractmethod
    def forward(self, id_cond: Tensor, hidden: list[Tensor]) -> Tensor:
        """Encode `id_cond` and five `hidden`, one for each of `TAPS`, into ID tokens [n, tokens, context width]."""

    def zeros(self, tokens: int, device: torch.device) -> tuple[Tensor, list[Tensor]]:
        """The input that stands for no face, of `tokens` hidden tokens each."""
        hidden = torch.zeros(1, tokens, self.hidden, device=device)
        return torch.zeros(1, self.id_width, device=device), [hidden] * len(TAPS)


class IDEncoder(IdentityEncoder):
    """PuLID v1's encoder: multilayer perceptrons only."""

    def __init__(self, id_width: int, body: tuple[int, int], hidden: int, context: int) -> None:
        """Take the widths: of the condition, inside the body, of the vision tower, and of an ID token."""
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
    """Build the encoder that `state` fits, in float32; raises `WeightsError`."""
    first, id_width = shape_of(state, "body.0.weight")
    context, hidden = shape_of(state, "mapping_0.6.weight")
    body = first, shape_of(state, "body.3.weight")[0]
    encoder = empty(lambda: IDEncoder(id_width, body, hidden, context))
    fill(encoder, state, device, torch.float32)
    return encoder


def id_condition(embedding: Tensor, class_embedding: Tensor) -> Tensor:
    """Join the raw ArcFace embedding [1, 512] and the normalised class embedding [1, m] to [1, 512 + m]."""
    return torch.cat((embedding, class_embedding), -1)
