"""`ic-light` in the catalog."""

from __future__ import annotations

from typing import Final

from models.ic_light.options import Options
from models.ic_light.params import Params
from models.model import Model

MODEL: Final = Model(
    slug="ic-light",
    title="IC-Light",
    summary="The subject of a photo in new light and a new scene, from a prompt.",
    params=Params,
    options=Options,
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
)
