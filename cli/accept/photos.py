"""The photos that are sent: from the scikit-image package, in the public domain or under CC0."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from cli.accept import SetupError
from cli.sample_photo import sample_photo
from models.imaging.types import Rgb


@dataclass(frozen=True)
class Ellipse:
    """Outline of a photo's subject: centre and radii as fractions of its width and height."""

    x: float
    y: float
    x_radius: float
    y_radius: float

    def box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) in px of an image of that size."""
        return (
            (self.x - self.x_radius) * width,
            (self.y - self.y_radius) * height,
            (self.x + self.x_radius) * width,
            (self.y + self.y_radius) * height,
        )


@dataclass(frozen=True)
class Photo:
    """One photo: stem of its file, what it shows as a prompt names it, outline of that subject, credit."""

    name: str
    shows: str
    subject: Ellipse
    credit: str

    def read(self) -> bytes:
        """The PNG file; raises `SetupError` if scikit-image is not installed."""
        try:
            return sample_photo(f"{self.name}.png").read_bytes()
        except ModuleNotFoundError as error:
            raise SetupError(str(error)) from error

    def pixels(self) -> Rgb:
        """The photo as an array."""
        return np.asarray(Image.open(io.BytesIO(self.read())).convert("RGB"))


ASTRONAUT: Final = Photo(
    "astronaut",
    "a woman in an orange space suit",
    Ellipse(0.42, 0.56, 0.28, 0.44),
    "Eileen Collins, photographed by NASA; public domain",
)
CAT: Final = Photo(
    "chelsea", "a tabby cat", Ellipse(0.52, 0.50, 0.27, 0.44), "Chelsea the cat, by Stefan van der Walt; CC0"
)
CUP: Final = Photo(
    "coffee", "a cup of coffee", Ellipse(0.49, 0.42, 0.18, 0.33), "A cup of coffee, by Rachel Michetti; CC0"
)
PHOTOS: Final = (ASTRONAUT, CAT, CUP)
