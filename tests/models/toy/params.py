"""Parameters of `toy`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from models.imaging.decode import ImageFormat
from models.params import RANDOM_SEED, CommonParams, ImageReference, Quality, Seed


class Params(CommonParams):
    """What a caller chooses."""

    image_fields: ClassVar[tuple[str, ...]] = ("image",)
    variants: ClassVar[tuple[str, ...]] = ("colour", "grey")
    variant_field: ClassVar[str] = "mode"

    image: ImageReference
    mode: Literal["colour", "grey"] = Field("colour", description="Whether the result has colours.")
    number_of_images: int = Field(1, ge=1, le=4, description="Number of images.")
    seed: Seed = RANDOM_SEED
    output_format: ImageFormat = Field("png", description="File format of the images.")
    output_quality: Quality = 80

    @property
    def variant(self) -> str:
        """The mode."""
        return self.mode

    @property
    def _shape(self) -> str:
        return "64x48"

    @property
    def output_size(self) -> tuple[int, int]:
        """(width, height) in px."""
        return 64, 48
