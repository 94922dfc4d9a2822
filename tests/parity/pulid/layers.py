"""`layer_index_map`: which cross-attention of SDXL belongs to which layer of the adapter."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bench.full_size.pulid_lightning import projections
from bench.full_size.pulid_lightning import unet as full_size_unet
from models.pulid_lightning.attention import layer_numbers
from models.runtime.unet import cross_attentions
from tests.parity.pulid.vector import Vector
from tests.parity.report import Row, exact


def check(vector: Vector) -> Iterator[Row]:
    """Layer, width and heads under every processor's name, of SDXL's UNet at full size.

    ComfyUI's names for the same blocks have no counterpart in the project.
    """
    with torch.device("meta"):
        unet = full_size_unet()
        numbers = layer_numbers(unet, projections(unet))
    number_of = dict(zip(cross_attentions(unet), numbers, strict=True))
    for row in vector.facts:
        layer = unet.get_submodule(row["diffusers"].removesuffix(".processor"))
        found = {"index": number_of[layer], "inner_dim": layer.inner_dim, "heads": layer.heads}
        yield exact(row["diffusers"], found, {key: row[key] for key in found})
