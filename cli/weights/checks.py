"""Checks of fetched objects against the lock, or else against what their source reports."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cli.weights.download import RemoteInfo
from cli.weights.items import Item
from models.errors import WeightsError
from models.weights.hashes import sha256_of


@dataclass(frozen=True)
class Download:
    """An object to fetch, and what is expected of it: by the lock where it has a pin, else by the source."""

    item: Item
    expected: RemoteInfo


@dataclass(frozen=True)
class FileInfo:
    """Size of a file in bytes, and its hash in hex."""

    size: int
    sha256: str


def expect(item: Item, remote: RemoteInfo) -> Download:
    """Compare what the source reports with what the lock pins; raises `WeightsError` if they differ."""
    for what, pinned, offered in (("bytes", item.size, remote.size), ("sha256", item.sha256, remote.sha256)):
        if pinned is not None and offered is not None and pinned != offered:
            raise WeightsError(
                f"{item.label} is another file than the lock names: {what} {offered} where {pinned} is expected. "
                "Nothing was fetched of it; it was changed where it is published, or on the way."
            )
    return Download(item, RemoteInfo(item.size or remote.size, item.sha256 or remote.sha256, remote.git_sha1))


def check(path: Path, download: Download) -> FileInfo:
    """Size and hash of a fetched file; raises `WeightsError` if they are not as expected."""
    expected, label, size = download.expected, download.item.label, path.stat().st_size
    if expected.size is not None and size != expected.size:
        raise WeightsError(f"{label} came with {size:,} bytes where {expected.size:,} are expected; it was deleted.")
    sha256 = sha256_of(path)
    if expected.sha256 is not None and sha256 != expected.sha256:
        raise WeightsError(
            f"{label} came damaged: sha256 {sha256} where {expected.sha256} is expected; it was deleted."
        )
    if expected.git_sha1 is not None and (sha1 := git_sha1_of(path)) != expected.git_sha1:
        raise WeightsError(
            f"{label} came damaged: git hash {sha1} where {expected.git_sha1} is expected; it was deleted."
        )
    return FileInfo(size, sha256)


def git_sha1_of(path: Path) -> str:
    """The git blob hash of a file, by which the hub identifies small files."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
