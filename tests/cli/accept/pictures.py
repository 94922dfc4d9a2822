"""Prepared pictures: good ones that checks must pass, and bad ones that they must not."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from cli.accept.client import ImageRequest, ImageResponse
from cli.accept.photos import Photo
from models.ic_light.conditioning import light_gradient
from models.imaging.decode import MEDIA_TYPES
from models.imaging.encode import encode
from models.imaging.types import Rgb


@cache
def fitted(photo: Photo, width: int = 768, height: int = 960) -> Rgb:
    """The photo, cut at its centre to a picture's shape."""
    picture = Image.fromarray(photo.pixels())
    return np.asarray(ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS))


def relit(picture: Rgb, light_source: str) -> Rgb:
    """The picture times a ramp of light, as bright as the photo on the light's side."""
    height, width = picture.shape[:2]
    ramp = light_gradient(light_source, width, height)
    return (picture * (0.15 + 0.85 * ramp / 255)).astype(np.uint8)


def brightened(picture: Rgb, factor: float = 1.3) -> Rgb:
    return (picture * factor).clip(0, 255).astype(np.uint8)


def blurred(picture: Rgb, radius: float) -> Rgb:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


def uniform(width: int = 768, height: int = 960) -> Rgb:
    return np.full((height, width, 3), 127, np.uint8)


def noise(width: int = 768, height: int = 960, grain: int = 1, seed: int = 0) -> Rgb:
    """Noise of grains of `grain` px; 8 is what latents that were never denoised decode to."""
    grains = np.random.default_rng(seed).integers(0, 256, (height // grain, width // grain, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(grains).resize((width, height), Image.Resampling.BICUBIC))


def jpeg(picture: Rgb, quality: int = 60) -> Rgb:
    """The picture after a trip through a lossy file."""
    return np.asarray(Image.open(io.BytesIO(encode(picture, "jpg", quality))))


def response(request: ImageRequest, picture: Rgb, seconds: float = 1.5) -> ImageResponse:
    """What a server would answer that had generated `picture`; the file shows its upper left corner only."""
    image_format = request.params["output_format"]
    return ImageResponse(
        request=request,
        data=encode(np.ascontiguousarray(picture[:320, :320]), image_format, 80),
        media_type=MEDIA_TYPES[image_format],
        pixels=picture,
        seed=request.params["seed"],
        inference_s=seconds,
        wall_s=seconds + 0.5,
    )
