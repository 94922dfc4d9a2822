"""Build the demo weights of every model into one folder."""

from __future__ import annotations

import hashlib
import shutil
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Final

from models.demo import ic_light, pulid_lightning
from models.demo.trained_files import SHIPPED, Trained
from models.errors import WeightsError
from models.weights.installed import read_installed, write_installed

_STAMP: Final = "recipe"


def build(root: Path, trained: Trained = SHIPPED) -> bool:
    """Make sure that `root` holds the demo weights; True if they had to be built.

    `trained` are the files that ic-light's are made of. Raises `WeightsError` if one is not what its lock names.

    The folder appears complete or not at all: it is filled under another name and then moved into place. Processes
    that want the same folder wait for the one that builds it.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    with root.with_name(f"{root.name}.busy").open("w") as busy:
        flock(busy, LOCK_EX)
        if _is_current(root, trained):
            return False
        _build(root, trained)
        return True


def _build(root: Path, trained: Trained) -> None:
    draft = root.with_name(f"{root.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    recipe = _recipe(trained)
    roles = [*pulid_lightning.build(draft), *ic_light.build(draft, trained)]
    write_installed(draft, roles, "demo")
    (draft / _STAMP).write_text(recipe)
    shutil.rmtree(root, ignore_errors=True)
    draft.replace(root)


def _is_current(root: Path, trained: Trained) -> bool:
    """Whether `root` holds complete demo weights that the builders, as they are now, have made."""
    try:
        return (root / _STAMP).read_text() == _recipe(trained) and read_installed(root).kind == "demo"
    except (FileNotFoundError, WeightsError):
        return False


def _recipe(trained: Trained) -> str:
    """Digest of the builders' source and the trained files' pins: when one of them changes, all is built anew."""
    sources = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    pins = [pin.sha256.encode() for _, pin in sorted(trained.pins().items())]
    return hashlib.sha256(b"\0".join([*sources, *pins])).hexdigest()
