"""Whether an object is the one that the lock, or else its source, says it is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cli.weights.download import Published
from cli.weights.items import Item
from models.errors import WeightsError
from models.weights.hashes import sha256_of


@dataclass(frozen=True)
class Task:
    """An object to fetch, with what is known of it beforehand: the lock's word where it has one, else the source's."""

    item: Item
    expected: Published


@dataclass(frozen=True)
class Found:
    """What a file was found to be: size in bytes, hash in hex."""

    size: int
    sha256: str


def expect(item: Item, said: Published) -> Task:
    """Set what the source says beside what the lock pins; raises `WeightsError` if they differ."""
    for what, pinned, offered in (("bytes", item.size, said.size), ("sha256", item.sha256, said.sha256)):
        if pinned is not None and offered is not None and pinned != offered:
            raise WeightsError(
                f"{item.label} is another file than the lock names: {what} {offered} where {pinned} is due. "
                "Nothing was fetched of it; it was changed where it is published, or on the way."
            )
    return Task(item, Published(item.size or said.size, item.sha256 or said.sha256, said.git_sha1))


def check(path: Path, task: Task) -> Found:
    """Size and hash of a fetched file; raises `WeightsError` if they are not as expected."""
    expected, label, size = task.expected, task.item.label, path.stat().st_size
    if expected.size is not None and size != expected.size:
        raise WeightsError(f"{label} came with {size:,} bytes where {expected.size:,} are due; it was deleted.")
    sha256 = sha256_of(path)
    if expected.sha256 is not None and sha256 != expected.sha256:
        raise WeightsError(f"{label} came damaged: sha256 {sha256} where {expected.sha256} is due; it was deleted.")
    if expected.git_sha1 is not None and (sha1 := git_sha1_of(path)) != expected.git_sha1:
        raise WeightsError(f"{label} came damaged: git hash {sha1} where {expected.git_sha1} is due; it was deleted.")
    return Found(size, sha256)


def git_sha1_of(path: Path) -> str:
    """The hash by which git, and so the hub, knows a small file."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
