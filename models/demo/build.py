"""Build the demo weights of every model into one folder."""

from __future__ import annotations

import shutil
from fcntl import LOCK_EX, flock
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from models.demo import ic_light, pulid_lightning
from models.demo.trained_files import SHIPPED, Trained
from models.demo.untrained import completed
from models.errors import WeightsError
from models.weights.installed import read_installed, write_installed

VERSION: Final = 3
"""Version of what the builders write: to be raised with every change of theirs that changes a file."""
_KEY_FILE: Final = "build_key"


def build(root: Path, trained: Trained = SHIPPED) -> bool:
    """Make sure that `root` holds the demo weights; True if they had to be built.

    `trained` are the files that they are made of. Raises `WeightsError` if one is not what its lock names.

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
    with TemporaryDirectory() as folder:
        portraits = pulid_lightning.build(draft, completed(trained, Path(folder)))
    roles = [*portraits, *ic_light.build(draft, trained)]
    write_installed(draft, roles, "demo")
    (draft / _KEY_FILE).write_text(build_key(trained))
    shutil.rmtree(root, ignore_errors=True)
    draft.replace(root)


def _is_current(root: Path, trained: Trained) -> bool:
    """Whether `root` holds complete demo weights with the present build key."""
    try:
        return (root / _KEY_FILE).read_text() == build_key(trained) and read_installed(root).kind == "demo"
    except (FileNotFoundError, WeightsError):
        return False


def build_key(trained: Trained) -> str:
    """What the built files depend on: the builders' version and the pins of the trained files, one per line."""
    pins = [f"{name} {pin.sha256}" for name, pin in sorted(trained.pins().items())]
    return "\n".join([f"version {VERSION}", *pins, ""])
