"""A folder with the published objects, for machines without a network.

    mirror/
    ├── SHA256SUMS                                   of everything below, as `sha256sum --check` reads it
    ├── owner/name/revision/path/in/the/repository   objects of the hub
    └── host/path/of/the/url                         all others

Files that were downloaded by hand may be put into their places; those that the lock does not pin need their line in
SHA256SUMS then.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cli.weights.download import Advance, Published
from cli.weights.items import Item
from models.errors import WeightFileError, WeightsError
from models.weights.atomic import atomic_write

SUMS_NAME: Final = "SHA256SUMS"
_CHUNK: Final = 1 << 20


class Mirror:
    """Objects as a mirror folder holds them; the same door as `Network`."""

    def __init__(self, root: Path) -> None:
        """Open the mirror at `root`; raises `WeightsError` if it is no folder."""
        if not root.is_dir():
            raise WeightsError(f"The mirror {root} is not a folder.")
        self._root = root
        self._sums = read_sums(root)

    def published(self, item: Item) -> Published:
        """An object's size, and its hash by SHA256SUMS; raises `WeightsError` if it is not there, or not hashed."""
        path = self._root / item.mirror_path
        if not path.is_file():
            raise WeightsError(f"{item.label} is not in the mirror: {path} is missing. Fill it with `weights mirror`.")
        sha256 = self._sums.get(item.mirror_path.as_posix())
        if sha256 is None and item.sha256 is None:
            raise WeightsError(
                f"{item.label} cannot be verified: neither the lock nor the mirror's {SUMS_NAME} has it."
            )
        return Published(path.stat().st_size, sha256)

    def fetch(self, item: Item, part: Path, advance: Advance) -> None:
        """Complete the file `part`, which may hold the object's beginning."""
        with (self._root / item.mirror_path).open("rb") as source, part.open("ab") as target:
            source.seek(target.tell())
            while chunk := source.read(_CHUNK):
                target.write(chunk)
                advance(len(chunk))


def read_sums(root: Path) -> dict[str, str]:
    """Hashes of a mirror's objects by their paths in it; empty if there is no list. Raises `WeightFileError`."""
    try:
        lines = (root / SUMS_NAME).read_text(encoding="utf-8").splitlines()
        pairs = [line.split(maxsplit=1) for line in lines if line.strip()]
        return {path.removeprefix("*").removeprefix("./"): digest.lower() for digest, path in pairs}
    except FileNotFoundError:
        return {}
    except ValueError as error:  # no UTF-8, or a line without a path
        raise WeightFileError(f"{root / SUMS_NAME} is malformed: a line each of a hash and a path is due.") from error


def write_sums(root: Path, sums: Mapping[str, str]) -> None:
    """Write the list of a mirror's hashes."""
    atomic_write(root / SUMS_NAME, "".join(f"{digest}  {path}\n" for path, digest in sorted(sums.items())))
