"""The result store: encoded pictures, each gone by itself at a set time.

A file is called `<token>-<unix seconds>.<ext>`: the token cannot be guessed, the seconds are the moment it expires. So
its name alone tells everything: nothing is lost when Redis is, there is no index that could disagree, and any process
can clean up. Who knows a name may read the file, unless the name ends in an owner's tag: `<token>-<unix
seconds>-<tag>.<ext>` is for that owner alone. Where the bytes lie is said by `FACELIGHT_STORE`, which
`workers.store.open` reads: in a folder that all processes see (`workers.store.folder`) or in an S3 bucket
(`workers.store.s3`).
"""

from __future__ import annotations

import logging
import math
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from workers.errors import SettingsError, StoreRefused, StoreUnavailable

_log = logging.getLogger(__name__)
# All parts have a fixed length, because a token may hold hyphens as well. Ten digits last until the year 2286.
_NAME: Final = re.compile(
    r"(?P<token>[A-Za-z0-9_-]{32})-(?P<expires>[0-9]{10})(?:-(?P<tag>[0-9a-f]{16}))?\.(?:png|jpg|webp|heic|avif|bin)"
)
_TOKEN_BYTES: Final = 24
_GRACE_S: Final = 300
"""An expired file is kept for so long, so that a download under way is not torn."""
_PROBE_TTL_S: Final = 60
_PROBE_BYTES: Final = 4096
S3_LOCATION: Final = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>[A-Za-z0-9!_.*'()/-]*))?"
)
"""A bucket, and a prefix of object keys: by S3's naming rules, and of characters that need no quoting."""


@dataclass(frozen=True)
class StoredFile:
    """One file that has not expired: its name, how large it is in bytes, for how many seconds it lives on."""

    name: str
    size: int
    ttl_s: float

    @property
    def token(self) -> str:
        """The name without its extension. No other file has the same, ever."""
        return self.name.partition(".")[0]

    @property
    def extension(self) -> str:
        """What kind of file it is: png, jpg, webp, heic, avif, or bin for what is not to be downloaded."""
        return self.name.partition(".")[2]


class Store(ABC):
    """Files under names that tell when they expire. Safe to share between threads, processes and machines.

    Every method but `check` and `delete` raises `StoreUnavailable` when the place where the bytes lie does not answer,
    is full, or refuses.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` tells the seconds since the epoch: all who share a store must agree on them."""
        self._clock = clock

    def check(self) -> None:
        """Try the store at start: write a file, read it back, remove it.

        Raises `SettingsError` if the store refuses, or gives back anything but what was written; if it does not answer
        yet, that is logged.
        """
        try:
            self._probe()
        except StoreRefused as error:
            raise SettingsError(f"FACELIGHT_STORE: {error}") from error
        except StoreUnavailable as error:
            _log.error("the result store cannot be used yet: %s", error)

    def put(self, data: bytes, extension: str, ttl_s: float, owner: str = "") -> str:
        """Write a file durably and as a whole that expires in `ttl_s` seconds, or up to 1 s later; returns its name.

        With an owner it is for that one alone: see `may_read`.
        """
        with self.staged(data, extension, ttl_s, owner) as name:
            return name

    @contextmanager
    def staged(self, data: bytes, extension: str, ttl_s: float, owner: str = "") -> Iterator[str]:
        """Write a file as `put` does, which is there for readers at once and durable only after the block.

        So what is to be done with the file need not wait for the disk. It is gone if the block raises.
        """
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        tag = f"-{_tag(token, owner)}" if owner else ""
        name = f"{token}-{math.ceil(self._clock() + ttl_s)}{tag}.{extension}"
        with self._written(name, data):
            try:
                yield name
            except BaseException:
                self.delete(name)
                raise

    def find(self, name: str) -> StoredFile | None:
        """Look a file up by its name; None if there is none, it has expired, or `name` is not a name at all."""
        ttl_s = self._ttl_s(name)
        size = self._size(name) if ttl_s > 0 else None
        return StoredFile(name, size, ttl_s) if size is not None else None

    def read(self, name: str) -> bytes | None:
        """Read a whole file; None as for `find`."""
        return self._read(name) if self._ttl_s(name) > 0 else None

    @abstractmethod
    def open(self, found: StoredFile, start: int, length: int) -> Iterator[bytes] | None:
        """Open a file now, to read `length` bytes from byte `start` on in pieces later; None if it is gone.

        Once open it is read to the end, even if it is removed meanwhile. A part must not be empty, nor reach beyond
        the end of the file.
        """

    def delete(self, name: str) -> None:
        """Remove a file now. Never fails: a file that cannot be removed expires all the same."""
        if not is_name(name):
            return
        try:
            self._remove(name)
        except StoreUnavailable as error:
            _log.warning("a file is left to expire: %s", error)

    @abstractmethod
    def purge_expired(self) -> int:
        """Remove files that have expired a while ago, and what writers that died left behind; returns how many."""

    def _is_purgeable(self, name: str) -> bool:
        """Whether `name` is that of a file that has expired so long ago that nobody can still be reading it."""
        return is_name(name) and self._ttl_s(name) < -_GRACE_S

    def _ttl_s(self, name: str) -> float:
        """Seconds until the file expires; what is not a name has expired for ever."""
        found = _NAME.fullmatch(name)
        return int(found["expires"]) - self._clock() if found else -math.inf

    def _probe(self) -> None:
        data = secrets.token_bytes(_PROBE_BYTES)
        name = self.put(data, "bin", _PROBE_TTL_S)
        complaint = self._complaint(name, data)
        self._remove(name)
        if complaint:
            raise StoreRefused(complaint)

    def _complaint(self, name: str, written: bytes) -> str:
        """What is wrong with a file that was just written, as it comes back; empty if it is the same, byte by byte."""
        read = self._read(name)
        if read is None:
            return "a file that was written is not there when it is read."
        if read != written:
            return (
                f"{len(written)} bytes were written, and {len(read)} other ones come back. {self._cause(written, read)}"
            )
        if (size := self._size(name)) != len(written):
            return f"a file of {len(written)} bytes is said to be one of {size}."
        start, length = len(written) // 3, len(written) // 2
        part = self.open(StoredFile(name, len(written), _PROBE_TTL_S), start, length)
        if part is None or b"".join(part) != written[start : start + length]:
            return "a part of a file comes back as other bytes than were written there."
        return ""

    def _cause(self, written: bytes, read: bytes) -> str:  # noqa: ARG002 - for those who know
        """The likely cause of a change, and what to do about it, in a sentence."""
        return "The place where files lie, or something on the way, changes them."

    @abstractmethod
    def _written(self, name: str, data: bytes) -> AbstractContextManager[None]:
        """Write a file as a whole; it is durable after the block. If that fails, it is gone."""

    @abstractmethod
    def _size(self, name: str) -> int | None: ...

    @abstractmethod
    def _read(self, name: str) -> bytes | None: ...

    @abstractmethod
    def _remove(self, name: str) -> None: ...


def is_name(text: str) -> bool:
    """Whether `text` can be the name of a file in a store."""
    return _NAME.fullmatch(text) is not None


def is_private(name: str) -> bool:
    """Whether `name` is that of a file with an owner."""
    found = _NAME.fullmatch(name)
    return found is not None and found["tag"] is not None


def may_read(name: str, owner: str) -> bool:
    """Whether the file of that name, if there is one, is for `owner` or for everybody."""
    found = _NAME.fullmatch(name)
    return found is not None and found["tag"] in (None, _tag(found["token"], owner))


def _tag(token: str, owner: str) -> str:
    return sha256(f"{token}:{owner}".encode()).hexdigest()[:16]
