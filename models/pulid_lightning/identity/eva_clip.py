"""EVA02-CLIP's vision tower (PuLID specification section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from timm.models.eva import Eva, checkpoint_filter_fn
from torch import Tensor
from torchvision.transforms.functional import InterpolationMode, normalize, resize

from models.errors import WeightsError
from models.runtime.load import empty, fill
from models.runtime.precision import identity_precision
from models.runtime.state_dicts import StateDict, shape_of, under

TAPS: Final = (3, 7, 11, 15, 19)
"""0-based blocks whose outputs the identity encoder reads."""
_HEAD_DIM: Final = 64
_PRETRAINING_GRID: Final = (16, 16)
_CLIP_MEAN: Final = [0.48145466, 0.4578275, 0.40821073]
_CLIP_STD: Final = [0.26862954, 0.26130258, 0.27577711]


@dataclass(frozen=True)
class VisionFeatures:
    """What the tower says of n pictures.

    `embedding`: class embedding, [n, classes], not normalised. `hidden`: one tensor [n, 1 + patches, width] for each
    of `TAPS`, class token first.
    """

    embedding: Tensor
    hidden: list[Tensor]


class EvaClip:
    """The tower with its preprocessing."""

    def __init__(self, tower: Eva) -> None:
        """Wrap a loaded tower."""
        self._tower = tower

    @property
    def widths(self) -> tuple[int, int]:
        """Width of the class embedding, and of the hidden tokens."""
        return int(self._tower.num_classes), int(self._tower.embed_dim)

    @property
    def tokens(self) -> int:
        """Number of hidden tokens of one picture, the class token included."""
        return int(self._tower.pos_embed.shape[1])

    def preprocess(self, pictures: Tensor) -> Tensor:
        """Scale RGB pictures [n, 3, h, w] in 0..1 to the tower's side (bicubic, antialiased) and normalise them."""
        side = list(self._tower.patch_embed.img_size)
        # Antialiasing is what the service's own torchvision does by default; without it the identity shifts.
        scaled = resize(pictures, side, InterpolationMode.BICUBIC, antialias=True)
        normalised: Tensor = normalize(scaled, _CLIP_MEAN, _CLIP_STD)
        return normalised

    def encode(self, pixels: Tensor) -> VisionFeatures:
        """Run the tower on preprocessed pictures [n, 3, side, side]; the features are in its own precision."""
        tokens, taps = self._tower.forward_intermediates(
            pixels.to(self._tower.pos_embed),
            indices=list(TAPS),
            norm=False,
            return_prefix_tokens=True,
            output_fmt="NLC",
        )
        hidden = [torch.cat((prefix, patches), 1) for patches, prefix in taps]
        return VisionFeatures(embedding=self._tower.forward_head(tokens), hidden=hidden)


def load_eva_clip(state: StateDict, device: torch.device, head_dim: int = _HEAD_DIM) -> EvaClip:
    """Build the tower that `state` fits (`visual.*` or `visual.trunk.*`), in `identity_precision`.

    Raises `WeightsError`.
    """
    visual = under(state, "visual.trunk.") or under(state, "visual.")
    classes, width = shape_of(visual, "head.weight")
    patch = shape_of(visual, "patch_embed.proj.weight")[-1]
    grid = round((shape_of(visual, "pos_embed")[1] - 1) ** 0.5)
    heads, depth, mlp_width = width // head_dim, _depth(visual), _mlp_width(visual)
    if depth <= TAPS[-1]:
        raise WeightsError(f"its vision tower has {depth} blocks, too few: block {TAPS[-1]} is looked at.")
    tower = empty(lambda: build_tower(classes, width, depth, heads, mlp_width, patch, grid))
    prefixed = {f"visual.{key}": value for key, value in visual.items()}
    fill(tower, checkpoint_filter_fn(prefixed, tower), device, identity_precision(device))
    return EvaClip(tower)


def build_tower(classes: int, width: int, depth: int, heads: int, mlp_width: int, patch: int, grid: int) -> Eva:
    """An untrained tower; `grid` is the number of patches along each side, `patch` their side in px."""
    return Eva(
        img_size=patch * grid,
        patch_size=patch,
        num_classes=classes,
        global_pool="token",
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        mlp_ratio=(mlp_width + 0.5) / width,  # timm rounds width * ratio down
        qkv_fused=False,
        swiglu_mlp=True,
        scale_mlp=True,
        scale_attn_inner=True,
        use_rot_pos_emb=True,
        ref_feat_shape=_PRETRAINING_GRID,
    )


def normalised(embedding: Tensor) -> Tensor:
    """Divide each row of a class embedding by its length."""
    # No floor under the length: the reference has none.
    return F.normalize(embedding, dim=-1, eps=0)


def _depth(visual: StateDict) -> int:
    return 1 + max((int(key.split(".")[1]) for key in visual if key.startswith("blocks.")), default=-1)


def _mlp_width(visual: StateDict) -> int:
    converted, original = "blocks.0.mlp.fc2.weight", "blocks.0.mlp.w3.weight"
    return shape_of(visual, converted if converted in visual else original)[1]
