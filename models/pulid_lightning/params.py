"""Parameters of `pulid-lightning`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from models.imaging.decode import ImageFormat
from models.params import RANDOM_SEED, CommonParams, ImageReference, Prompt, Quality, Seed
from models.pulid_lightning.prompt import check_weights


def _floor_to_8(side: int) -> int:
    return side // 8 * 8


Side = Annotated[
    int,
    Field(ge=256, le=2048, description="Side of the portraits in px; floored to a multiple of 8."),
    AfterValidator(_floor_to_8),
]


WeightedPrompt = Annotated[Prompt, AfterValidator(check_weights)]


class Params(CommonParams):
    """Parameters of a request."""

    image_fields: ClassVar[tuple[str, ...]] = ("face_image",)
    variants: ClassVar[tuple[str, ...]] = ("default", "artistic", "realistic")
    variant_field: ClassVar[str] = "checkpoint_model"

    face_image: ImageReference = Field(
        description="Photo that shows the face to keep; of several faces the largest counts. http(s) URL, data URI, "
        "bare base64 or, in multipart bodies, a file."
    )
    prompt: WeightedPrompt = Field(
        "A photo of a person",
        description="What the portrait shows. Naming a gender often helps. `(word:1.3)` weighs a word; weights go from "
        "-10 to 10.",
    )
    negative_prompt: WeightedPrompt = Field("", description="What the portrait must not show; weighed like `prompt`.")
    checkpoint_model: Literal["default", "artistic", "realistic"] = Field(
        "default", description="Which SDXL-Lightning checkpoint generates the portrait."
    )
    face_style: Literal["high-fidelity", "stylized"] = Field(
        "high-fidelity", description="Keep the face close to the photo, or give the prompt's style more room."
    )
    width: Side = 1024
    height: Side = 1024
    number_of_images: int = Field(1, ge=1, le=10, description="Number of portraits.")
    seed: Seed = RANDOM_SEED
    output_format: ImageFormat = Field("png", description="File format of the portraits.")
    output_quality: Quality = 80

    @property
    def variant(self) -> str:
        """The checkpoint."""
        return self.checkpoint_model

    @property
    def _shape(self) -> str:
        """Size and face style."""
        return f"{self.width}x{self.height}-{self.face_style}"

    @property
    def output_size(self) -> tuple[int, int]:
        """(width, height) in px, as asked for after flooring."""
        return self.width, self.height
