"""What a folder of weights holds, written by whoever filled it, and all that the loaders go by.

    kind = "real"                     # or "demo"

    [[weights]]
    name = "pulid-v1-fp16"            # of the shipped lock's entry
    role = "pulid_adapter"            # by which a loader asks
    path = "pulid/adapter.safetensors"
    used_by = ["pulid-lightning"]
    licence = "Apache-2.0"
    source = "owner/name@revision"
    files = [{ path = "pulid/adapter.safetensors", size = 1234, sha256 = "…" }]

`path` is one file or one folder; `files` lists every file behind it, as it lies on the disk. A file that was converted
has `origin_sha256` besides, the hash of what was published.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict

from models.errors import WeightFileError, WeightsError
from models.weights.atomic import atomic_write
from models.weights.hashes import sha256_of
from models.weights.lock import InnerPath, Sha256

INSTALLED_NAME: Final = "installed.toml"
Kind = Literal["demo", "real"]


class InstalledFile(BaseModel):
    """One file: its path below the folder, its size in bytes and its hash; `origin_sha256` if it was converted."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    path: InnerPath
    size: int
    sha256: Sha256
    origin_size: int | None = None
    origin_sha256: Sha256 | None = None

    @property
    def published(self) -> tuple[int, str]:
        """Size and hash of the file as it is published."""
        return self.origin_size or self.size, self.origin_sha256 or self.sha256


class InstalledWeight(BaseModel):
    """What fills one role."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    role: str
    path: InnerPath
    used_by: list[str]
    licence: str
    source: str = ""
    files: list[InstalledFile]


class Installed(BaseModel):
    """The record of a whole folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Kind
    weights: list[InstalledWeight]


def describe(root: Path, role: str, path: str, used_by: Iterable[str], licence: str, name: str = "") -> InstalledWeight:
    """Describe what lies at `root / path` (a file or a folder) as it is now; `name` is the role's unless given."""
    target = root / path
    members = sorted(p for p in target.rglob("*") if p.is_file()) if target.is_dir() else [target]
    files = [describe_file(root, p.relative_to(root).as_posix()) for p in members]
    return InstalledWeight(
        name=name or role.replace("_", "-"), role=role, path=path, used_by=list(used_by), licence=licence, files=files
    )


def describe_file(root: Path, path: str) -> InstalledFile:
    """Describe the file at `root / path` as it is now."""
    return InstalledFile(path=path, size=(root / path).stat().st_size, sha256=sha256_of(root / path))


def write_installed(root: Path, weights: Sequence[InstalledWeight], kind: Kind) -> None:
    """Write the record of the folder `root`, replacing an older one in one step."""
    record = Installed(kind=kind, weights=list(weights))
    atomic_write(root / INSTALLED_NAME, tomli_w.dumps(record.model_dump(exclude_none=True)))


def read_installed(root: Path) -> Installed:
    """Read the record of the folder `root`; raises `WeightsError` if there is none or it is malformed."""
    try:
        return Installed.model_validate(tomllib.loads((root / INSTALLED_NAME).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        raise WeightsError(
            f"There is no {INSTALLED_NAME} in {root}: no weights were fetched into it. Run `facelight weights fetch`."
        ) from None
    except OSError as error:
        raise WeightFileError(f"{root / INSTALLED_NAME}: cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, or no record
        raise WeightFileError(f"{root / INSTALLED_NAME} is malformed: {error}") from error
