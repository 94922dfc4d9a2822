"""Sample photos from the scikit-image package, found without importing it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def sample_photo(name: str = "astronaut.png") -> Path:
    """Path of a photo in the public domain or under CC0; raises `ModuleNotFoundError` without scikit-image."""
    package = find_spec("skimage")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("The photos are part of scikit-image, which is not installed: add facelight[demo].")
    return Path(package.origin).parent / "data" / name
