"""What is transferred: a weight's published objects, each of them one file, or one archive with several inside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from models.errors import WeightsError
from models.weights.lock import HubSource, UrlSource, Weight, WeightFile


@dataclass(frozen=True)
class Item:
    """One published object, and the files that come of it; `size` in bytes and `sha256` are the lock's, if any.

    `origin`: the path in the hub's repository, or the whole URL.
    """

    weight: Weight
    source: HubSource | UrlSource
    origin: str
    size: int | None
    sha256: str | None
    files: tuple[WeightFile, ...]

    @property
    def is_archive(self) -> bool:
        """Whether the files are members of it."""
        return isinstance(self.source, UrlSource) and self.source.unpack is not None

    @property
    def mirror_path(self) -> PurePosixPath:
        """Where it lies in a mirror: `owner/name/revision/origin`, or `host/path` of its URL."""
        if isinstance(self.source, HubSource):
            return PurePosixPath(self.source.repo, self.source.revision, self.origin)
        url = urlsplit(self.origin)
        parts = [part for part in unquote(url.path).split("/") if part not in ("", ".", "..")]
        return PurePosixPath(url.hostname or "", *parts)

    @property
    def label(self) -> str:
        """What an operator knows it by."""
        return f"{self.weight.name}: {PurePosixPath(urlsplit(self.origin).path).name}"


def items_of(weight: Weight) -> Iterator[Item]:
    """The objects behind a weight; raises `WeightsError` if one URL is to give several files without an archive."""
    source = weight.source
    if isinstance(source, UrlSource) and source.unpack:
        yield Item(weight, source, source.url, source.size, source.sha256, tuple(weight.files))
        return
    for file in weight.files:
        sha256 = file.sha256 if file.pinned else None
        yield Item(weight, source, _origin(weight, file), file.size, sha256, (file,))


def source_name(weight: Weight) -> str:
    """The source in words, for the record of what is installed."""
    source = weight.source
    return f"{source.repo}@{source.revision}" if isinstance(source, HubSource) else source.url


def _origin(weight: Weight, file: WeightFile) -> str:
    source = weight.source
    if isinstance(source, HubSource):
        return file.origin
    if source.url.endswith("/"):
        return source.url + file.origin
    if len(weight.files) > 1:
        raise WeightsError(f"The lock names several files of {weight.name}, but the URL of one.")
    return source.url
