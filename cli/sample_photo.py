"""The photos that the demo sends and the welcome's command lines name."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def sample_photo(name: str = "astronaut.png") -> Path:
    """A photo in the public domain that scikit-image brings along, one of a face if none is named.

    The package is not loaded.
    """
    package = find_spec("skimage")
    assert package is not None, "scikit-image is a dependency of this distribution"
    assert package.origin is not None
    return Path(package.origin).parent / "data" / name
