"""Parameters of `ic-light`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, Field
from pydantic.json_schema import SkipJsonSchema

from models.imaging.decode import ImageFormat
from models.params import RANDOM_SEED, CommonParams, ImageReference, Prompt, Quality, Seed, extension

SIDES: Final = tuple(range(256, 1025, 64))
LightSource = Literal["None", "Left Light", "Right Light", "Top Light", "Bottom Light"]


def _one_of_sides(side: int) -> int:
    if side not in SIDES:
        raise ValueError(f"must be one of {', '.join(map(str, SIDES))}")
    return side


Side = Annotated[
    int,
    AfterValidator(_one_of_sides),
    Field(
        json_schema_extra={"enum": list(SIDES)},
        description="Side of the first pass in px. The result is `highres_scale` times as large.",
    ),
]
Denoise = Annotated[float, Field(ge=0.1, le=1, allow_inf_nan=False)]


class Params(CommonParams):
    """Parameters of a request."""

    image_fields: ClassVar[tuple[str, ...]] = ("subject_image", "background_image")
    variants: ClassVar[tuple[str, ...]] = ("foreground", "background")
    variant_field: ClassVar[str] = "background_image"
    none_sentinels: ClassVar[tuple[str, ...]] = ("negative_prompt", "light_source")

    subject_image: ImageReference = Field(
        description="Photo of the subject to relight; its background is replaced. http(s) URL, data URI, bare base64 "
        "or, in multipart bodies, a file."
    )
    prompt: Prompt = Field(description="The scene and the light to put the subject in.")
    appended_prompt: Prompt = Field("best quality", description="Appended to the prompt behind a comma.")
    negative_prompt: Prompt = Field(
        "lowres, bad anatomy, bad hands, cropped, worst quality", description="What the picture must not show."
    )
    light_source: LightSource = Field("None", description="Side the light comes from, or None to leave it open.")
    width: Side = 512
    height: Side = 640
    steps: int = Field(25, ge=1, le=100, description="Denoise steps of each of the two passes.")
    cfg: float = Field(
        2, ge=1, le=32, allow_inf_nan=False, description="Classifier-free guidance: how closely to follow the prompt."
    )
    lowres_denoise: Denoise = Field(
        0.9,
        description="First pass with a light source: how much of the light gradient is replaced. Higher keeps less of "
        "it; no effect without a light source.",
    )
    highres_scale: float = Field(
        1.5, ge=1, le=3, allow_inf_nan=False, description="Enlargement between the passes; sides round to 64 px."
    )
    highres_denoise: Denoise = Field(
        0.5, description="Second pass: how much of the enlarged picture is generated anew. Higher keeps less of it."
    )
    number_of_images: int = Field(1, ge=1, le=12, description="Number of pictures.")
    seed: Seed = RANDOM_SEED
    output_format: ImageFormat = Field("webp", description="File format of the pictures.")
    output_quality: Quality = 80
    background_image: ImageReference | SkipJsonSchema[None] = Field(
        None,
        description="Extension, unknown to the hosted API: picture of the background to put the subject before, lit to "
        "match. `light_source` and `lowres_denoise` have no effect with it; a `cfg` of 7 suits it. Sent like "
        "`subject_image`. Refused where the server lacks the weights for it.",
        json_schema_extra=extension,
    )

    @property
    def variant(self) -> str:
        """What conditions the UNet: the foreground only, or a background too."""
        return "foreground" if self.background_image is None else "background"

    @property
    def _shape(self) -> str:
        """Sizes and steps of both passes, where the first one starts, and guidance."""
        begins = "noise" if self.light_source == "None" else f"gradient-{self.lowres_denoise}"
        passes = f"{self.width}x{self.height}-{self.highres_scale}-{self.steps}-{begins}-{self.highres_denoise}"
        return f"{passes}-{self.cfg}"

    @property
    def output_size(self) -> tuple[int, int]:
        """(width, height) in px of the second pass (specification section 10): ties round to the even 64-px tile."""
        return self._enlarged(self.width), self._enlarged(self.height)

    def _enlarged(self, side: int) -> int:
        return round(side * self.highres_scale / 64) * 64
