"""`toy` in the catalog."""

from __future__ import annotations

from models.model import Model

from .options import Options
from .params import Params

MODEL = Model(
    slug="toy",
    title="Toy",
    summary="The negative of a picture.",
    params=Params,
    options=Options,
    example={"image": "https://example.com/cat.jpeg", "mode": "colour", "seed": 42},
    module=f"{__package__}.pipeline",
    needs_weights=False,
)
