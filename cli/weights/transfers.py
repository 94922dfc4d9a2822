"""Several objects at a time, from one source into partial files that survive the process."""

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

from cli.weights.checks import Found, Task, check, expect
from cli.weights.download import Advance, Published
from cli.weights.items import Item
from cli.weights.progress import Progress
from models.errors import WeightsError

PARTS: Final = ".fetch"
"""Folder of the partial files, below the one that is filled, so that they are moved and never copied."""
Result = TypeVar("Result")


class Source(Protocol):
    """Where objects come from: `Network` or `Mirror`."""

    def published(self, item: Item) -> Published:
        """What is known of an object before it is fetched; raises `WeightsError`."""

    def fetch(self, item: Item, part: Path, advance: Advance) -> None:
        """Complete the file `part`, which may hold the object's beginning; raises `WeightsError`."""


class _Stopped(Exception):
    """The other transfers have ended, and so must this one."""


class Transfers:
    """Transfers into the folder `root`."""

    def __init__(self, source: Source, root: Path, jobs: int, out: TextIO) -> None:
        """`jobs`: how many at a time; `out` takes the progress."""
        self._source, self._parts, self._jobs, self._out = source, root / PARTS, jobs, out
        self._stop = threading.Event()

    def locate(self, items: Iterable[Item]) -> tuple[list[Task], list[str]]:
        """Ask the source for sizes and hashes; returns the tasks, and why others cannot be fetched."""
        tasks, failures = [], []
        with ThreadPoolExecutor(self._jobs) as pool:
            for future in [pool.submit(self._locate, item) for item in items]:
                try:
                    tasks.append(future.result())
                except WeightsError as error:
                    failures.append(str(error))
        return tasks, failures

    def check_space(self, tasks: Sequence[Task], room: int) -> None:
        """Raise `WeightsError` unless the disk holds what is missing of `tasks`, and `room` bytes besides."""
        missing = sum(max((task.expected.size or 0) - _size(self._part(task)), 0) for task in tasks) + room
        free = shutil.disk_usage(self._parts.parent).free
        if missing > free:
            raise WeightsError(
                f"{self._parts.parent} has {in_words(free)} of free space, and {in_words(missing)} are needed. "
                "Nothing was fetched: make room, or choose another folder with FACELIGHT_WEIGHTS_DIR."
            )

    def run(
        self,
        label: str,
        tasks: Sequence[Task],
        finish: Callable[[Task, Path, Found], Result],
        done: Callable[[Task, Result], object],
    ) -> list[str]:
        """Fetch and check all `tasks`; returns the reasons of those that failed.

        `finish` is given each checked file, in the thread that fetched it; `done` its result, in the caller's thread.
        """
        self._parts.mkdir(parents=True, exist_ok=True)
        known = sum(task.expected.size or 0 for task in tasks)
        began = sum(_size(self._part(task)) for task in tasks)
        with Progress(label, known, began, self._out) as progress, ThreadPoolExecutor(self._jobs) as pool:
            futures = {pool.submit(self._one, task, finish, progress): task for task in tasks}
            try:
                failures = _gather(futures, done)
            finally:  # also when the operator interrupts
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
        if not failures:
            shutil.rmtree(self._parts)
        return failures

    def _locate(self, item: Item) -> Task:
        return expect(item, self._source.published(item))

    def _one(self, task: Task, finish: Callable[[Task, Path, Found], Result], progress: Progress) -> Result:
        def advance(count: int) -> None:
            if self._stop.is_set():
                raise _Stopped
            progress.add(count)

        part = self._part(task)
        try:
            return finish(task, part, self._obtain(task, part, advance))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                self._stop.set()
                raise WeightsError(
                    f"The disk of {part.parent} is full. Make room and run it again: what has come is kept."
                ) from error
            raise WeightsError(f"{task.item.label} cannot be brought into place: {error}") from error

    def _obtain(self, task: Task, part: Path, advance: Advance) -> Found:
        if not _can_resume(task, part):
            advance(-_size(part))
            part.unlink(missing_ok=True)
        part.touch()
        if _size(part) != task.expected.size:
            self._source.fetch(task.item, part, advance)
        try:
            return check(part, task)
        except WeightsError:
            part.unlink()
            raise

    def _part(self, task: Task) -> Path:
        """The partial file: another one for every content, so that two editions are never mixed."""
        expected, item = task.expected, task.item
        marks = (item.mirror_path, item.files[0].path, expected.sha256, expected.git_sha1)
        digest = hashlib.sha256("\0".join(map(str, marks)).encode()).hexdigest()
        return self._parts / f"{PurePosixPath(item.mirror_path).name}.{digest[:12]}.part"


def _gather(futures: Mapping[Future[Result], Task], done: Callable[[Task, Result], object]) -> list[str]:
    failures = []
    for future in as_completed(futures):
        try:
            done(futures[future], future.result())
        except WeightsError as error:
            failures.append(str(error))
        except _Stopped:
            pass  # the one that stopped it has told why
    return failures


def _can_resume(task: Task, part: Path) -> bool:
    """Whether a partial file may be continued: its content must be known, and it not be too long."""
    expected = task.expected
    known = expected.sha256 or expected.git_sha1
    return bool(known) and (expected.size is None or _size(part) <= expected.size)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextmanager
def sole_user(root: Path) -> Iterator[None]:
    """Make the folder `root` and keep other processes from filling it; raises `WeightsError` if one does already."""
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


def in_words(size: int) -> str:
    """A number of bytes as people write it: `6.9 GB`."""
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
