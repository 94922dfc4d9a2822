"""The verified weight files of one model, by role."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from models.errors import WeightsError
from models.weights.hashes import HashCache
from models.weights.installed import InstalledFile, Kind, read_installed


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
                if fault := find_fault(root, file, hashes):
                    raise WeightsError(f"The weight file {fault}. Run `facelight weights fetch` to mend it.")
        return cls(kind=record.kind, paths={weight.role: root / weight.path for weight in weights})


def find_fault(root: Path, file: InstalledFile, hashes: HashCache, afresh: bool = False) -> str | None:
    """What is wrong with a file, as the end of a sentence that begins with its path; None if it is as recorded.

    `afresh`: read the file whatever `hashes` remembers of it.
    """
    path = root / file.path
    try:
        size = path.stat().st_size
        if not path.is_file():
            return f"{path} is not a file"
        if size != file.size:
            return f"{path} is damaged: {size:,} bytes where {file.size:,} were installed"
        if (digest := (hashes.calculate if afresh else hashes.sha256)(path)) != file.sha256:
            return f"{path} is damaged: sha256 {digest} where {file.sha256} was installed"
    except FileNotFoundError:
        return f"{path} is missing"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return None
