"""Which models there are. Free of torch: a model's code is only imported by `Model.load`."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from models.ic_light.params import Params as IcLightParams
from models.params import CommonParams
from models.pulid_lightning.params import Params as PulidLightningParams

if TYPE_CHECKING:
    import torch

    from models.pipeline import LoadOptions, Pipeline
    from models.weights.installed import WeightSet


@dataclass(frozen=True)
class Model:
    """One servable model: its public name, its parameters and where its pipeline lives.

    `demo_note` is what everybody who meets its demo weights must be told. `flexible`: it makes do with the memory that
    is left, and so is loaded after the others.
    """

    slug: str
    title: str
    summary: str
    params: type[CommonParams]
    example: dict[str, Any]
    module: str
    demo_note: str
    flexible: bool = False

    def load(self, weights: WeightSet, device: torch.device, options: LoadOptions) -> Pipeline[Any, Any]:
        """Import the pipeline and load its weights onto `device`; raises `WeightsError`."""
        pipeline: Pipeline[Any, Any] = import_module(self.module).load(weights, device, options)
        return pipeline

    def unused_roles(self, options: LoadOptions) -> set[str]:
        """Roles of the model's weights that `load` will not ask for."""
        roles: set[str] = import_module(self.module).unused_roles(options)
        return roles


_ALL: Final = (
    Model(
        slug="pulid-lightning",
        title="PuLID Lightning",
        summary="Portraits of the person in a photo, from a prompt, in four steps.",
        params=PulidLightningParams,
        example={
            "face_image": "https://example.com/face.png",
            "prompt": "A photo of a person",
            "face_style": "high-fidelity",
            "checkpoint_model": "default",
            "width": 1024,
            "height": 1024,
            "number_of_images": 1,
            "output_format": "png",
            "output_quality": 80,
            "seed": 412431,
        },
        module="models.pulid_lightning.pipeline",
        demo_note="Random stand-ins: pictures made with them are noise.",
        flexible=True,
    ),
    Model(
        slug="ic-light",
        title="IC-Light",
        summary="The subject of a photo in new light and a new scene, from a prompt.",
        params=IcLightParams,
        example={
            "subject_image": "https://example.com/cat.jpeg",
            "prompt": "cat, photoshoot, 4k",
            "appended_prompt": "best quality",
            "light_source": "Left Light",
            "width": 512,
            "height": 640,
            "steps": 25,
            "cfg": 2,
            "highres_scale": 1.5,
            "lowres_denoise": 0.9,
            "highres_denoise": 0.5,
            "number_of_images": 1,
            "output_format": "webp",
            "output_quality": 80,
            "seed": 42,
        },
        module="models.ic_light.pipeline",
        demo_note="Small networks trained on a handful of pictures, for demonstration only.",
    ),
)

MODELS: Final[dict[str, Model]] = {model.slug: model for model in _ALL}
"""Every model by its slug, in the order in which documents list them."""
