"""The verified weight files of one model, by role."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from models.errors import WeightsError
from models.weights.lock import Kind, LockedFile, read_lock, sha256_of


@dataclass(frozen=True)
class WeightSet:
    """Paths by role. Loaders ask for `weights["role"]` and never look at a disk on their own."""

    kind: Kind
    paths: Mapping[str, Path]

    def __getitem__(self, role: str) -> Path:
        """Path of the file or folder of `role`; raises `WeightsError` if the set lacks it."""
        try:
            return self.paths[role]
        except KeyError:
            raise WeightsError(f"The weights have no role {role!r}.") from None

    @classmethod
    def open(cls, root: Path, slug: str) -> WeightSet:
        """Read the lock in `root`, check size and hash of every file that model `slug` uses.

        Raises `WeightsError` that names the first missing or altered file.
        """
        lock = read_lock(root)
        roles = [role for role in lock.weights if slug in role.used_by]
        if not roles:
            raise WeightsError(f"{root} holds no weights for {slug}.")
        for role in roles:
            for file in role.files:
                _verify(root, file)
        return cls(kind=lock.kind, paths={role.role: root / role.path for role in roles})


def _verify(root: Path, file: LockedFile) -> None:
    path = root / file.path
    if not path.is_file():
        raise WeightsError(f"The weight file {path} is missing.")
    if path.stat().st_size != file.size or sha256_of(path) != file.sha256:
        raise WeightsError(f"The weight file {path} is not the one that the lock names.")
