"""`apply_pulid`: from detected faces to ID tokens, with stand-ins for the networks whose outputs the vector fixes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.full_size.pulid_lightning import id_encoder
from models.pulid_lightning import attention
from models.pulid_lightning.adapter import Projection
from models.pulid_lightning.attention import Method, identity_contexts
from models.pulid_lightning.identity import face
from models.pulid_lightning.identity.encoder import Identity, id_condition
from models.pulid_lightning.identity.eva_clip import TAPS, EvaClip, normalised
from models.pulid_lightning.identity.extractor import IdentityExtractor
from models.runtime.unet import TextContext
from tests.parity.pulid.attention import method_of
from tests.parity.pulid.id_encoder import load
from tests.parity.pulid.vector import Vector
from tests.parity.report import Row, exact

_HIDDEN_SHAPE: Final = (1, 577, 1024)
_CLASSES: Final = 19


class LabelledParser(nn.Module):
    """A face parser that answers with given labels and keeps what it was shown."""

    def __init__(self, labels: Tensor) -> None:
        """Answer with `labels` [1, h, w]."""
        super().__init__()
        self._labels = labels
        self.shown: list[Tensor] = []

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits [1, 19, h, w]."""
        self.shown.append(pixels)
        return F.one_hot(self._labels, _CLASSES).permute(0, 3, 1, 2).float()


@dataclass
class FixedTower:
    """A vision tower of the real size that answers with given features and keeps what it was shown."""

    embedding: Tensor
    hidden: list[Tensor]
    patch_embed: Any = field(default_factory=lambda: SimpleNamespace(img_size=(336, 336)))
    shown: list[Tensor] = field(default_factory=list)

    @property
    def pos_embed(self) -> Tensor:
        """As many positions as there are tokens."""
        return self.hidden[0]

    def forward_intermediates(self, pixels: Tensor, **_: Any) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """The hidden states, class token apart."""
        self.shown.append(pixels)
        return self.hidden[-1], [(states[:, 1:], states[:, :1]) for states in self.hidden]

    def forward_head(self, _: Tensor) -> Tensor:
        """The class embedding."""
        return self.embedding


@torch.inference_mode()
def check(vector: Vector) -> Iterator[Row]:
    """Face choice, what parser and tower are shown, condition, tokens of every variant the vector holds."""
    labels = vector.tensors["labels16"].repeat_interleave(32, 0).repeat_interleave(32, 1)[None]
    parser, tower = LabelledParser(labels), _tower(vector)
    shapes = {key: list(tensor.shape) for key, tensor in _meta_encoder().items()}
    encoder = load(vector.recipe.weights(shapes), vector.device)
    extractor = IdentityExtractor(parser, EvaClip(tower), encoder, vector.device)
    for variant in sorted(key.removesuffix(".info") for key in vector.facts if key.endswith(".info")):
        yield from _variant(vector, extractor, variant)
    yield from _conditions(vector)
    yield vector.close("parse_input_sample", parser.shown[0][:, :, ::16, ::16])
    yield vector.close("eva_input_b88_antialias_default", tower.shown[0])
    yield exact("id_uncond", encoder.zeros(1, vector.device)[0], vector.tensors["id_uncond"])


def _variant(vector: Vector, extractor: IdentityExtractor, variant: str) -> Iterator[Row]:
    facts, method = vector.facts[f"{variant}.info"], method_of(variant.rpartition(".")[2])
    crop = vector.tensors["crop_bgr_u8"].cpu().numpy()[:, :, ::-1]
    # The oldest original took the smallest face: the project follows its arithmetic, not its choice.
    (chosen,) = facts["chosen_face"]
    embedding = _embedding(vector, chosen).cpu().numpy()[0]
    identity = extractor.extract(face.FoundFace(np.ascontiguousarray(crop), embedding))
    if facts["num_zero"] is None:
        identity = _with_zeros(identity, method)
    else:
        yield exact(f"{variant} num_zero", method.num_zero, facts["num_zero"])
    yield vector.close(f"{variant}.cond", identity.cond)
    yield vector.close(f"{variant}.uncond", identity.uncond)
    projection = {(False, False): "neutral", (True, False): "ortho", (False, True): "ortho_v2"}
    yield exact(f"{variant} method", method.projection, projection[facts["ortho"], facts["ortho_v2"]])
    yield exact(f"{variant} weight", attention.WEIGHT, facts["weight"])
    tried = [[side, side] for side in face.DETECTION_SIZES[: len(facts["det_sizes"])]]
    yield exact(f"{variant} det_sizes", tried, facts["det_sizes"])


def _conditions(vector: Vector) -> Iterator[Row]:
    """The condition of the largest face, which the project takes, and of the smallest."""
    areas = np.array([(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in vector.facts["faces_bbox"]])
    chosen = face.largest(np.array(vector.facts["faces_bbox"]))
    for name, facts in vector.facts.items():
        if name.startswith("head.") and name.endswith(".info"):
            yield exact(f"{name} chosen_face", [chosen], facts["chosen_face"])
    class_embedding = normalised(_class_embedding(vector))
    for name, number in {"id_cond_head": chosen, "id_cond": int(areas.argmin())}.items():
        yield vector.close(name, id_condition(_embedding(vector, number), class_embedding))


def _with_zeros(identity: Identity, method: Method) -> Identity:
    """The tokens with the method's zero tokens behind them: its keys under a projection that changes nothing."""
    same = torch.eye(identity.cond.shape[-1], device=identity.cond.device)
    (context,) = identity_contexts([TextContext(same, same)], [identity], [Projection(same, same)], [1], method)
    uncond, cond = context.key.split(1)
    return Identity(cond, uncond)


def _tower(vector: Vector) -> FixedTower:
    hidden = [vector.recipe.input(f"apply.hidden.{tap}", _HIDDEN_SHAPE).to(vector.device) for tap in range(len(TAPS))]
    return FixedTower(_class_embedding(vector), hidden)


def _class_embedding(vector: Vector) -> Tensor:
    return vector.recipe.input("apply.cls", (1, 768), 3).to(vector.device)


def _embedding(vector: Vector, number: int) -> Tensor:
    return vector.recipe.input(f"apply.face.{number}", (512,))[None].to(vector.device)


def _meta_encoder() -> dict[str, Tensor]:
    with torch.device("meta"):
        return id_encoder().state_dict()
