"""Concurrent transfers from one source, into partial files that a later run resumes."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final, Protocol, TextIO, TypeVar

from cli.weights.checks import Download, FileInfo, check, expect
from cli.weights.download import ProgressCallback, RemoteInfo
from cli.weights.items import Item
from cli.weights.progress import Progress
from models.errors import WeightsError

PARTS: Final = ".fetch"
"""Folder of the partial files, below the one that is filled, so that they are moved and never copied."""
Result = TypeVar("Result")


class Source(Protocol):
    """Where objects come from: `Network` or `Mirror`."""

    def info(self, item: Item) -> RemoteInfo:
        """Size and hash of an object, as far as the source reports them; raises `WeightsError`."""

    def fetch(self, item: Item, part: Path, on_bytes: ProgressCallback) -> None:
        """Append the rest of the object to the partial file `part`; raises `WeightsError`."""


class _Stopped(Exception):
    """Raised in a download's thread when the run is stopped."""


class Transfers:
    """Transfers into the folder `root`."""

    def __init__(self, source: Source, root: Path, jobs: int, out: TextIO) -> None:
        """`jobs`: how many at a time; `out` gets the progress."""
        self._source, self._parts, self._jobs, self._out = source, root / PARTS, jobs, out
        self._stop = threading.Event()

    def locate(self, items: Iterable[Item]) -> tuple[list[Download], list[str]]:
        """Ask the source for sizes and hashes; returns the downloads, and messages of failures."""
        downloads, failures = [], []
        with ThreadPoolExecutor(self._jobs) as pool:
            for future in [pool.submit(self._locate, item) for item in items]:
                try:
                    downloads.append(future.result())
                except WeightsError as error:
                    failures.append(str(error))
        return downloads, failures

    def check_space(self, downloads: Sequence[Download], extra: int) -> None:
        """Raise `WeightsError` unless the disk holds what is missing of `downloads`, and `extra` bytes besides."""
        missing = (
            sum(max((download.expected.size or 0) - _size(self._part(download)), 0) for download in downloads) + extra
        )
        free = shutil.disk_usage(self._parts.parent).free
        if missing > free:
            raise WeightsError(
                f"{self._parts.parent} has {format_bytes(free)} of free space, and {format_bytes(missing)} are needed. "
                "Nothing was fetched: make room, or choose another folder with FACELIGHT_WEIGHTS_DIR."
            )

    def run(
        self,
        label: str,
        downloads: Sequence[Download],
        finish: Callable[[Download, Path, FileInfo], Result],
        done: Callable[[Download, Result], object],
    ) -> list[str]:
        """Fetch and check all `downloads`; returns the reasons of those that failed.

        `finish` is given each checked file, in the thread that fetched it; `done` its result, in the caller's thread.
        """
        self._parts.mkdir(parents=True, exist_ok=True)
        known = sum(download.expected.size or 0 for download in downloads)
        began = sum(_size(self._part(download)) for download in downloads)
        with Progress(label, known, began, self._out) as progress, ThreadPoolExecutor(self._jobs) as pool:
            futures = {pool.submit(self._one, download, finish, progress): download for download in downloads}
            try:
                failures = _gather(futures, done)
            finally:  # also when the operator interrupts
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
        if not failures:
            shutil.rmtree(self._parts)
        return failures

    def _locate(self, item: Item) -> Download:
        return expect(item, self._source.info(item))

    def _one(
        self, download: Download, finish: Callable[[Download, Path, FileInfo], Result], progress: Progress
    ) -> Result:
        def on_bytes(count: int) -> None:
            if self._stop.is_set():
                raise _Stopped
            progress.add(count)

        part = self._part(download)
        try:
            return finish(download, part, self._complete(download, part, on_bytes))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                self._stop.set()
                raise WeightsError(
                    f"The disk of {part.parent} is full. Make room and run it again: what has come is kept."
                ) from error
            raise WeightsError(f"{download.item.label} cannot be brought into place: {error}") from error

    def _complete(self, download: Download, part: Path, on_bytes: ProgressCallback) -> FileInfo:
        if not _can_resume(download, part):
            on_bytes(-_size(part))
            part.unlink(missing_ok=True)
        part.touch()
        if _size(part) != download.expected.size:
            self._source.fetch(download.item, part, on_bytes)
        try:
            return check(part, download)
        except WeightsError:
            part.unlink()
            raise

    def _part(self, download: Download) -> Path:
        """The partial file, named by the expected content, so that two versions are never mixed."""
        expected, item = download.expected, download.item
        marks = (item.mirror_path, item.files[0].path, expected.sha256, expected.git_sha1)
        digest = hashlib.sha256("\0".join(map(str, marks)).encode()).hexdigest()
        return self._parts / f"{PurePosixPath(item.mirror_path).name}.{digest[:12]}.part"


def _gather(futures: Mapping[Future[Result], Download], done: Callable[[Download, Result], object]) -> list[str]:
    failures = []
    for future in as_completed(futures):
        try:
            done(futures[future], future.result())
        except WeightsError as error:
            failures.append(str(error))
        except _Stopped:
            pass  # the failure that stopped the run has its own message
    return failures


def _can_resume(download: Download, part: Path) -> bool:
    """Whether a partial file can be continued: a hash is known, and it is not too long."""
    expected = download.expected
    known = expected.sha256 or expected.git_sha1
    return bool(known) and (expected.size is None or _size(part) <= expected.size)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextmanager
def exclusive_lock(root: Path) -> Iterator[None]:
    """Create the folder `root` and hold its lock; raises `WeightsError` if another process holds it."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise WeightsError(f"{root} cannot be used: {error.strerror}.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise WeightsError(f"Another process is filling {root}; wait for it to end.") from None
    finally:
        os.close(descriptor)


def format_bytes(size: int) -> str:
    """A number of bytes with its unit: `6.9 GB`."""
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
