"""The record of a weights folder, `installed.toml`, and the verified weight files of one model by role.

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

import logging
import os
import threading
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict

from models.errors import WeightFileError, WeightsError
from models.weights.atomic import atomic_write
from models.weights.folder import Folder
from models.weights.hashes import HashCache, sha256_of
from models.weights.lock import InnerPath, Sha256

INSTALLED_NAME: Final = "installed.toml"
Kind = Literal["demo", "real"]
_MOST_NAMES: Final = 5
_MOST_THREADS: Final = 4
"""Threads that hash, each a file."""
_log = logging.getLogger(__name__)


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


@dataclass(frozen=True)
class WeightSet:
    """Weight files of one model by role: loaders open `weights["role"]` and nothing else.

    `recorded`: the verified files; None for a set without a record, to which every file belongs. `unverified`: those
    whose hashes are still to be compared, by `verifying`.
    """

    kind: Kind
    paths: Mapping[str, Path]
    recorded: frozenset[Path] | None = None
    unverified: tuple[tuple[Path, InstalledFile], ...] = ()

    def __getitem__(self, role: str) -> Path:
        """Path of the file or folder of `role`; raises `WeightsError` if the set lacks it."""
        try:
            return self.paths[role]
        except KeyError:
            raise WeightsError(f"The weights have no role {role!r}.") from None

    @classmethod
    def empty(cls) -> WeightSet:
        """The weights of a model that has no weight files."""
        return cls("real", {}, frozenset())

    def folder(self, role: str) -> Folder:
        """The recorded files of a role that is a folder; raises `WeightsError` if the set lacks it."""
        path = self[role]
        return Folder.as_found(path) if self.recorded is None else Folder.of(path, self.recorded)

    @classmethod
    def open(
        cls,
        root: Path,
        slug: str,
        hashes: HashCache | None = None,
        skip: Collection[str] = (),
        defer_hashes: bool = False,
    ) -> WeightSet:
        """Read the record in `root`, check size and hash of every file that model `slug` uses, less the roles `skip`.

        Cached hashes are not recalculated. With `defer_hashes` unknown ones of .safetensors files are left to
        `verifying`: such files hold numbers alone, and do no harm when they are read. Raises `WeightsError` that names
        the first missing or altered file.
        """
        record, hashes = read_installed(root), hashes or HashCache()
        weights = [weight for weight in record.weights if slug in weight.used_by and weight.role not in skip]
        if not weights:
            raise WeightsError(f"{root} holds no weights for {slug}. Run `facelight weights fetch --only {slug}`.")
        files = [(root, file) for weight in weights for file in weight.files]
        unverified = [it for it in files if defer_hashes and _has_unknown_hash(*it, hashes)]
        with _checking([it for it in files if it not in unverified], hashes) as checks:
            _require_sound(checks)
        paths = {weight.role: root / weight.path for weight in weights}
        recorded = frozenset(root / file.path for weight in weights for file in weight.files)
        for path in paths.values():
            if not path.is_dir() and path not in recorded:
                raise WeightFileError(f"{path}: not recorded in installed.toml.")
        _warn_of_unrecorded(root, record, paths.values())
        return cls(record.kind, paths, recorded, tuple(unverified))

    @contextmanager
    def verifying(self, hashes: HashCache) -> Iterator[None]:
        """Hash what `open` left unverified, in threads of their own, while the body loads it: the disk is read once.

        Raises `WeightFileError` that names the first altered file when the body ends, also in the place of a
        `WeightsError` of the body's; its other exceptions pass at once.
        """
        with _checking(self.unverified, hashes) as checks:
            try:
                yield
            except WeightsError:
                _require_sound(checks)
                raise
            _require_sound(checks)


@contextmanager
def _checking(files: Iterable[tuple[Path, InstalledFile]], hashes: HashCache) -> Iterator[list[Future[str | None]]]:
    """Have `verify_file` called by other threads, which end with the body."""
    stop = threading.Event()
    with ThreadPoolExecutor(min(_MOST_THREADS, len(os.sched_getaffinity(0))), "hash-weights") as threads:
        try:
            yield [threads.submit(verify_file, root, file, hashes, stop=stop) for root, file in files]
        finally:
            stop.set()


def _has_unknown_hash(root: Path, file: InstalledFile, hashes: HashCache) -> bool:
    """Whether a .safetensors file of the recorded size is there whose hash is not cached."""
    path = root / file.path
    try:
        return path.suffix == ".safetensors" and path.stat().st_size == file.size and hashes.get(path) is None
    except OSError:
        return False


def _require_sound(checks: Iterable[Future[str | None]]) -> None:
    """Wait for the checks; raise `WeightFileError` for the first fault, in their order."""
    for check in checks:
        if fault := check.result():
            raise WeightFileError(f"{fault}. Run `facelight weights fetch` to repair it.")


def verify_file(
    root: Path, file: InstalledFile, hashes: HashCache, afresh: bool = False, stop: threading.Event | None = None
) -> str | None:
    """Compare a file with its record: None if equal, else `FILE: reason`.

    `afresh`: hash the file even if `hashes` has it cached. Raises `CancelledError` once `stop` is set.
    """
    path = root / file.path
    try:
        size = path.stat().st_size
        if not path.is_file():
            return f"{path}: not a file"
        if size != file.size:
            return f"{path}: damaged: {size:,} bytes where {file.size:,} were installed"
        if (digest := (hashes.calculate if afresh else hashes.sha256)(path, stop)) != file.sha256:
            return f"{path}: damaged: sha256 {digest} where {file.sha256} was installed"
    except FileNotFoundError:
        return f"{path}: missing"
    except OSError as error:
        return f"{path}: cannot be read: {error.strerror}"
    return None


def _warn_of_unrecorded(root: Path, record: Installed, paths: Iterable[Path]) -> None:
    """Warn of files beside recorded ones, which a library might have opened."""
    recorded = [root / file.path for weight in record.weights for file in weight.files]
    for path in filter(Path.is_dir, paths):
        if names := Folder.of(path, recorded).unrecorded():
            more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
            _log.warning("%s: not recorded, and not read: %s%s", path, ", ".join(names[:_MOST_NAMES]), more)
