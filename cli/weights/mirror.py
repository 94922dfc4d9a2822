"""A folder with the published objects, for machines without a network.

    mirror/
    ├── SHA256SUMS                                   of everything below, as `sha256sum --check` reads it
    ├── owner/name/revision/path/in/the/repository   objects of the hub
    └── host/path/of/the/url                         all others

Files that were downloaded by hand may be copied to their paths; those that the lock does not pin need their line in
SHA256SUMS then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TextIO

from cli.weights.checks import Download, FileInfo
from cli.weights.download import ProgressCallback, RemoteInfo
from cli.weights.fetch import Report
from cli.weights.items import Item, items_of
from cli.weights.transfers import Source, Transfers
from models.errors import WeightFileError, WeightsError
from models.weights.atomic import atomic_write
from models.weights.hashes import sha256_of
from models.weights.lock import Weight

SUMS_NAME: Final = "SHA256SUMS"
_CHUNK: Final = 1 << 20


class Mirror:
    """Objects as a mirror folder holds them: a `Source`, as `Network` is."""

    def __init__(self, root: Path) -> None:
        """Open the mirror at `root`; raises `WeightsError` if it is no folder."""
        if not root.is_dir():
            raise WeightsError(f"The mirror {root} is not a folder.")
        self._root = root
        self._sums = read_sums(root)

    def info(self, item: Item) -> RemoteInfo:
        """An object's size, and its hash by SHA256SUMS; raises `WeightsError` if it is not there, or not hashed."""
        path = self._root / item.mirror_path
        if not path.is_file():
            raise WeightsError(f"{item.label} is not in the mirror: {path} is missing. Fill it with `weights mirror`.")
        sha256 = self._sums.get(item.mirror_path.as_posix())
        if sha256 is None and item.sha256 is None:
            raise WeightsError(
                f"{item.label} cannot be verified: neither the lock nor the mirror's {SUMS_NAME} has it."
            )
        return RemoteInfo(path.stat().st_size, sha256)

    def fetch(self, item: Item, part: Path, on_bytes: ProgressCallback) -> None:
        """Append the rest of the object to the partial file `part`."""
        with (self._root / item.mirror_path).open("rb") as source, part.open("ab") as target:
            source.seek(target.tell())
            while chunk := source.read(_CHUNK):
                target.write(chunk)
                on_bytes(len(chunk))


def read_sums(root: Path) -> dict[str, str]:
    """Hashes of a mirror's objects by their paths in it; empty if there is no list. Raises `WeightFileError`."""
    try:
        lines = (root / SUMS_NAME).read_text(encoding="utf-8").splitlines()
        pairs = [line.split(maxsplit=1) for line in lines if line.strip()]
        return {path.removeprefix("*").removeprefix("./"): digest.lower() for digest, path in pairs}
    except FileNotFoundError:
        return {}
    except ValueError as error:  # no UTF-8, or a line without a path
        raise WeightFileError(f"{root / SUMS_NAME} is malformed: each line must be a hash and a path.") from error


def write_sums(root: Path, sums: Mapping[str, str]) -> None:
    """Write the list of a mirror's hashes."""
    atomic_write(root / SUMS_NAME, "".join(f"{digest}  {path}\n" for path, digest in sorted(sums.items())))


def fill_mirror(weights: Sequence[Weight], root: Path, source: Source, out: TextIO, jobs: int = 4) -> Report:
    """Put the objects of `weights` into the mirror at `root`; those that are there and right stay.

    Raises `WeightsError` if the disk cannot hold them.
    """
    transfers, sums = Transfers(source, root, jobs, out), read_sums(root)
    downloads, failures = transfers.locate(item for weight in weights for item in items_of(weight))
    files = len(downloads) + len(failures)
    to_fetch = [download for download in downloads if not _is_there(download, root, sums.get(_name(download)))]
    transfers.check_space(to_fetch, 0)
    completed: list[str] = []

    def done(download: Download, sha256: str) -> None:
        sums[_name(download)] = sha256
        write_sums(root, sums)
        completed.append(download.item.label)

    if to_fetch:
        failures += transfers.run(
            "fetching", to_fetch, lambda download, part, found: _keep(download, part, found, root), done
        )
    return Report(completed, failures, files)


def _name(download: Download) -> str:
    return download.item.mirror_path.as_posix()


def _is_there(download: Download, root: Path, listed: str | None) -> bool:
    path = root / download.item.mirror_path
    return listed is not None and path.is_file() and sha256_of(path) == (download.expected.sha256 or listed)


def _keep(download: Download, part: Path, found: FileInfo, root: Path) -> str:
    target = root / download.item.mirror_path
    target.parent.mkdir(parents=True, exist_ok=True)
    part.replace(target)
    return found.sha256
