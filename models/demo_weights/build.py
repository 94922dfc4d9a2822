"""Build the demo weights of every model into one folder."""

from __future__ import annotations

import hashlib
import shutil
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Final

from models.demo_weights import ic_light, pulid_lightning
from models.errors import WeightsError
from models.weights.installed import read_installed, write_installed

_STAMP: Final = "recipe"


def build(root: Path) -> bool:
    """Make sure that `root` holds the demo weights; True if they had to be built.

    The folder appears complete or not at all: it is filled under another name and then moved into place. Processes
    that want the same folder wait for the one that builds it.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    with root.with_name(f"{root.name}.busy").open("w") as busy:
        flock(busy, LOCK_EX)
        if is_current(root):
            return False
        _build(root)
        return True


def _build(root: Path) -> None:
    draft = root.with_name(f"{root.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    roles = [*pulid_lightning.build(draft), *ic_light.build(draft)]
    write_installed(draft, roles, "demo")
    (draft / _STAMP).write_text(_recipe())
    shutil.rmtree(root, ignore_errors=True)
    draft.replace(root)


def is_current(root: Path) -> bool:
    """Whether `root` holds complete demo weights that the builders, as they are now, have made."""
    try:
        return (root / _STAMP).read_text() == _recipe() and read_installed(root).kind == "demo"
    except (FileNotFoundError, WeightsError):
        return False


def _recipe() -> str:
    """Digest of the builders' source: what they made before they were changed is built anew."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()
