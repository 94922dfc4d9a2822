"""Which models there are. Free of torch.

To add one: a package with `model.py`, `params.py`, `options.py` and `pipeline.py`, and its name in `_PACKAGES`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

from models.model import Model

_PACKAGES: Final = (
    "models.pulid_lightning",
    "models.ic_light",
)


def _model(package: str) -> Model:
    model: Model = import_module(f"{package}.model").MODEL
    return model


MODELS: Final[dict[str, Model]] = {model.slug: model for model in map(_model, _PACKAGES)}
"""Every model by its slug, in the order in which documents list them."""
