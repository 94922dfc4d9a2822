"""The lock file of a folder of weights: every file with its role, size, hash and licence, as TOML.

    kind = "demo"                     # or "real"

    [[weights]]
    role = "pulid_adapter"            # the name by which a loader asks for it
    path = "pulid/adapter.safetensors"
    used_by = ["pulid-lightning"]
    licence = "Apache-2.0"
    files = [{ path = "pulid/adapter.safetensors", size = 1234, sha256 = "…" }]

A role is one file or one folder; `files` lists every file behind it, relative to the folder of the lock.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError

from models.errors import WeightsError

LOCK_NAME: Final = "weights.lock"
Kind = Literal["demo", "real"]


class LockedFile(BaseModel):
    """One file: its path relative to the lock's folder, its size in bytes and its hash in hex."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    path: str
    size: int
    sha256: str


class LockedRole(BaseModel):
    """One role: what a loader asks for by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    role: str
    path: str
    used_by: list[str]
    licence: str
    files: list[LockedFile]


class Lock(BaseModel):
    """A whole lock file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Kind
    weights: list[LockedRole]


def sha256_of(path: Path) -> str:
    """Hash a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lock_role(root: Path, role: str, path: str, used_by: Iterable[str], licence: str) -> LockedRole:
    """Describe what lies at `root / path` (a file or a folder) as it is now."""
    target = root / path
    members = sorted(p for p in target.rglob("*") if p.is_file()) if target.is_dir() else [target]
    files = [
        LockedFile(path=p.relative_to(root).as_posix(), size=p.stat().st_size, sha256=sha256_of(p)) for p in members
    ]
    return LockedRole(role=role, path=path, used_by=list(used_by), licence=licence, files=files)


def write_lock(root: Path, lock: Lock) -> None:
    """Write `lock` into the folder `root`, replacing an older one in one step."""
    draft = root / f"{LOCK_NAME}.draft"
    draft.write_text(tomli_w.dumps(lock.model_dump()))
    draft.replace(root / LOCK_NAME)


def read_lock(root: Path) -> Lock:
    """Read the lock of the folder `root`; raises `WeightsError` if there is none or it is malformed."""
    try:
        return Lock.model_validate(tomllib.loads((root / LOCK_NAME).read_text()))
    except FileNotFoundError:
        raise WeightsError(f"There is no {LOCK_NAME} in {root}.") from None
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise WeightsError(f"{root / LOCK_NAME} is malformed: {error}") from error
