"""`pulid-lightning` in the catalog."""

from __future__ import annotations

from typing import Final

from models.model import Model
from models.pulid_lightning.options import Options
from models.pulid_lightning.params import Params

MODEL: Final = Model(
    slug="pulid-lightning",
    title="PuLID Lightning",
    summary="Portraits of the person in a photo, from a prompt, in four steps.",
    params=Params,
    options=Options,
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
    memory_hint="FACELIGHT_CHECKPOINTS and FACELIGHT_CHECKPOINT_MEMORY choose which checkpoints it keeps there.",
    adapts_to_memory=True,
)
