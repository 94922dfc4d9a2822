"""Colours of a picture that names a colour space, brought to sRGB, in which the models were trained."""

from __future__ import annotations

import io
import logging
from typing import Final

import numpy as np
from PIL import Image, ImageChops, ImageCms

from models.imaging.picture_file import MAX_METADATA

_log = logging.getLogger(__name__)
_SAME: Final = 2
"""Levels of 255 by which descriptions of sRGB may differ in what they come to: rounding, and tables for curves."""
_RAMP: Final = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
_LEVELS: Final = np.linspace(0, 255, 18).astype(np.uint8)
_CUBE: Final = Image.fromarray(np.stack(np.meshgrid(_LEVELS, _LEVELS, _LEVELS), -1).reshape(1, -1, 3))
"""All colours of 18 levels each."""
_SRGB: Final = ImageCms.createProfile("sRGB")


def to_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    """Convert a decoded picture from an ICC profile's colour space to sRGB; transparency may become alpha.

    RGB profiles count for RGB and palettes, grey ones for grey. Without a profile, or with one that means sRGB, the
    very same picture is returned. A profile that is damaged, too large or for other colours is ignored and logged:
    metadata never decide whether a picture is read.
    """
    if not profile:
        return picture
    try:
        return _convert(picture, profile)
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError) as error:
        _log.warning("a colour profile of %d bytes is ignored: %s", len(profile), error)
        return picture


def _convert(picture: Image.Image, profile: bytes) -> Image.Image:
    if len(profile) > MAX_METADATA:
        raise ValueError("it is too large")
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = source.profile.xcolor_space.strip()
    if space == "GRAY" and picture.mode in ("L", "LA"):
        return _convert_grey(picture, source)
    if space == "GRAY" and picture.mode in ("RGB", "RGBA") and _is_grey(picture):  # some decoders know no other mode
        return _convert_grey(picture.convert("L" if picture.mode == "RGB" else "LA"), source)
    if space != "RGB" or picture.mode not in ("RGB", "RGBA", "P"):
        raise ValueError(f"it is for {space}, the picture is {picture.mode}")
    to_rgb = ImageCms.buildTransform(source, _SRGB, "RGB", "RGB")
    if _distance(_CUBE, _applied(to_rgb, _CUBE)) <= _SAME:
        return picture
    if picture.mode == "P":
        palette = Image.frombytes("RGB", (len(picture.getpalette() or ()) // 3, 1), bytes(picture.getpalette() or ()))
        picture.putpalette(_applied(to_rgb, palette).tobytes())
        return picture
    if "transparency" in picture.info:  # other colours may come out the same as the transparent one
        picture = picture.convert("RGBA")
    ImageCms.applyTransform(picture, ImageCms.buildTransform(source, _SRGB, picture.mode, picture.mode), inPlace=True)
    return picture


def _convert_grey(picture: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    """LittleCMS has no grey sRGB, so it converts a ramp of all levels to RGB, and the ramp's levels are looked up."""
    ramp = _applied(ImageCms.buildTransform(source, _SRGB, "L", "RGB"), _RAMP).getchannel("G")
    if _distance(_RAMP, ramp) <= _SAME:
        return picture
    if "transparency" in picture.info:
        picture = picture.convert("LA")
    levels = list(ramp.tobytes())
    return picture.point(levels if picture.mode == "L" else levels + list(range(256)))


def _is_grey(picture: Image.Image) -> bool:
    red, green, blue = (picture.getchannel(band) for band in "RGB")
    return all(np.asarray(ImageChops.difference(red, band)).max() <= _SAME for band in (green, blue))


def _applied(transform: ImageCms.ImageCmsTransform, picture: Image.Image) -> Image.Image:
    converted = ImageCms.applyTransform(picture, transform)
    assert converted is not None
    return converted


def _distance(one: Image.Image, other: Image.Image) -> int:
    return int(np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).max())
