"""The verified weight files of one model, by role."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.errors import WeightFileError, WeightsError
from models.weights.folder import Folder
from models.weights.hashes import HashCache
from models.weights.installed import Installed, InstalledFile, Kind, read_installed

_log = logging.getLogger(__name__)
_MOST_NAMES: Final = 5


@dataclass(frozen=True)
class WeightSet:
    """Paths by role. Loaders ask for `weights["role"]` and never look at a disk on their own.

    `recorded`: all files that were verified; None for a set without a record, to which all belongs that lies there.
    """

    kind: Kind
    paths: Mapping[str, Path]
    recorded: frozenset[Path] | None = None

    def __getitem__(self, role: str) -> Path:
        """Path of the file or folder of `role`; raises `WeightsError` if the set lacks it."""
        try:
            return self.paths[role]
        except KeyError:
            raise WeightsError(f"The weights have no role {role!r}.") from None

    def folder(self, role: str) -> Folder:
        """The recorded files of a role that is a folder; raises `WeightsError` if the set lacks it."""
        path = self[role]
        return Folder.as_found(path) if self.recorded is None else Folder.of(path, self.recorded)

    @classmethod
    def open(cls, root: Path, slug: str, hashes: HashCache | None = None, skip: Collection[str] = ()) -> WeightSet:
        """Read the record in `root`, check size and hash of every file that model `slug` uses, less the roles `skip`.

        Hashes that `hashes` remembers are not calculated again. Raises `WeightsError` that names the first missing or
        altered file.
        """
        record, hashes = read_installed(root), hashes or HashCache()
        weights = [weight for weight in record.weights if slug in weight.used_by and weight.role not in skip]
        if not weights:
            raise WeightsError(f"{root} holds no weights for {slug}. Run `facelight weights fetch --only {slug}`.")
        for weight in weights:
            for file in weight.files:
                if fault := verify_file(root, file, hashes):
                    raise WeightFileError(f"{fault}. Run `facelight weights fetch` to mend it.")
        paths = {weight.role: root / weight.path for weight in weights}
        recorded = frozenset(root / file.path for weight in weights for file in weight.files)
        for path in paths.values():
            if not path.is_dir() and path not in recorded:
                raise WeightFileError(f"{path}: not recorded in installed.toml.")
        _tell_unrecorded(root, record, paths.values())
        return cls(record.kind, paths, recorded)


def verify_file(root: Path, file: InstalledFile, hashes: HashCache, afresh: bool = False) -> str | None:
    """What is wrong with a file, `FILE: reason`; None if it is as recorded.

    `afresh`: read the file whatever `hashes` remembers of it.
    """
    path = root / file.path
    try:
        size = path.stat().st_size
        if not path.is_file():
            return f"{path}: not a file"
        if size != file.size:
            return f"{path}: damaged: {size:,} bytes where {file.size:,} were installed"
        if (digest := (hashes.calculate if afresh else hashes.sha256)(path)) != file.sha256:
            return f"{path}: damaged: sha256 {digest} where {file.sha256} was installed"
    except FileNotFoundError:
        return f"{path}: missing"
    except OSError as error:
        return f"{path}: cannot be read: {error.strerror}"
    return None


def _tell_unrecorded(root: Path, record: Installed, paths: Iterable[Path]) -> None:
    """Warn of files that lie beside recorded ones, where a library might have looked."""
    recorded = [root / file.path for weight in record.weights for file in weight.files]
    for path in filter(Path.is_dir, paths):
        if names := Folder.of(path, recorded).unrecorded():
            more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
            _log.warning("%s: not recorded, and not read: %s%s", path, ", ".join(names[:_MOST_NAMES]), more)
