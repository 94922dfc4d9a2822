"""The photo that the demo sends and the welcome's command lines name."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def sample_photo() -> Path:
    """A photo of one face, in the public domain, that scikit-image brings along; the package is not loaded."""
    package = find_spec("skimage")
    assert package is not None, "scikit-image is a dependency of this distribution"
    assert package.origin is not None
    return Path(package.origin).parent / "data" / "astronaut.png"
