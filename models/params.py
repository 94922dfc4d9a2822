"""What the parameters of all endpoints have in common. Free of torch.

An endpoint's `Params` is the single source for validation, OpenAPI and the documentation's table.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from models.imaging.decode import ImageFormat

RANDOM_SEED: Final = -1
_SEED_SPACE: Final = 2**53
"""Number of seeds: all are exact as doubles, and so in JavaScript."""
_SHARED_PIXELS: Final = 1_600_000
"""Requests with more pixels are not batched: one saturates the device."""

ImageReference = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1),
    Field(
        json_schema_extra={"format": "image-reference"},
        description="Picture: http(s) URL, data URI, bare base64 or, in multipart bodies, a file.",
    ),
]
"""An image in a request body. Once the request is accepted, the field holds the name of the stored file."""

Prompt = Annotated[str, Field(max_length=10_000)]


_EXPONENTIAL: Final = re.compile(r"\s*[-+]?[0-9]{1,400}(\.[0-9]{1,400})?[eE][-+]?[0-9]{1,4}\s*")


def _exact_integer(seed: Any) -> Any:
    """Floats that are integers as int: JavaScript serialises integers from 10^21 on with an exponent."""
    if isinstance(seed, str) and _EXPONENTIAL.fullmatch(seed):
        seed = float(seed)
    return int(seed) if isinstance(seed, float) and seed.is_integer() else seed


def _wrap_seed(seed: int) -> int:
    return seed if seed == RANDOM_SEED else seed % _SEED_SPACE


Seed = Annotated[
    int,
    BeforeValidator(_exact_integer),
    AfterValidator(_wrap_seed),
    Field(
        description="Noise seed; the same request with the same seed gives the same bytes. -1, null or absent "
        "chooses a random one. Taken modulo 2^53; the seed used is returned with the result.",
    ),
]
Quality = Annotated[
    int, Field(ge=0, le=100, description="Encoder quality of webp and jpg, 100 is best. png ignores it.")
]


def extension(schema: dict[str, Any]) -> None:
    """Mark a field's schema as an extension of the hosted API. Absent is its only default."""
    schema["x-extension"] = True
    schema.pop("default", None)


class CommonParams(BaseModel, ABC):
    """Base of every endpoint's parameters: unknown fields are ignored, null counts as absent.

    Numbers are also taken from numeric strings, as HTML forms and older clients send them.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    image_fields: ClassVar[tuple[str, ...]]
    """Names of the fields that hold an `ImageReference`; one that is not required may be None."""
    variants: ClassVar[tuple[str, ...]]
    """Parts of the model's weights: a request needs one, and a worker may have loaded only some; see `variant`."""
    variant_field: ClassVar[str]
    """Name of the field that chooses the variant."""
    none_sentinels: ClassVar[tuple[str, ...]] = ("negative_prompt",)
    """Fields in which the string "None" means absent, as old sample code sends it."""

    seed: Seed
    output_format: ImageFormat
    output_quality: Quality
    number_of_images: int

    @model_validator(mode="before")
    @classmethod
    def _strip_nulls(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        return {
            name: value
            for name, value in body.items()
            if value is not None and not (name in cls.none_sentinels and value == "None")
        }

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_booleans(cls, value: Any) -> Any:
        if isinstance(value, bool):  # pydantic takes them for numbers
            raise ValueError(f"must not be {str(value).lower()}")
        return value

    @classmethod
    def text_fields(cls) -> tuple[str, ...]:
        """Names of the fields in which an empty string is a value; elsewhere it means absent."""
        fields = cls.model_fields.items()
        return tuple(name for name, field in fields if field.annotation is str and name not in cls.image_fields)

    @property
    @abstractmethod
    def variant(self) -> str:
        """Which of `variants` these parameters need."""

    @property
    def batch_hint(self) -> str:
        """Requests of one variant with equal hints are claimed together; empty for a request that is not batched.

        A hint only: `Pipeline.batch_key` decides which of them are executed in one batch.
        """
        width, height = self.output_size
        fills_the_device = self.number_of_images > 1 or width * height > _SHARED_PIXELS
        return "" if fills_the_device else self._shape

    @property
    @abstractmethod
    def _shape(self) -> str:
        """The parameters that `Pipeline.batch_key` depends on, as one word."""

    @property
    @abstractmethod
    def output_size(self) -> tuple[int, int]:
        """(width, height) in px of each generated image."""
