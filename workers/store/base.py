"""The result store: encoded pictures, each of which expires at a set time.

A file is named `<token>-<expires>.<ext>`: an unguessable token, and the Unix time in seconds at which it expires. The
name holds all metadata, so there is no index that could be lost or disagree, and any process can purge. A name is a
capability: it suffices to read the file. A private file, `<token>-<expires>-<tag>.<ext>`, may be read only by the owner
whose tag it has. `FACELIGHT_STORE` names the backend, which `workers.store.open` opens: a shared folder
(`workers.store.folder`) or an S3 bucket (`workers.store.s3`).
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
# All parts have a fixed length, as a token may contain hyphens. Ten digits last until the year 2286.
_NAME: Final = re.compile(
    r"(?P<token>[A-Za-z0-9_-]{32})-(?P<expires>[0-9]{10})(?:-(?P<tag>[0-9a-f]{16}))?\.(?:png|jpg|webp|heic|avif|bin)"
)
_TOKEN_BYTES: Final = 24
_GRACE_S: Final = 300
"""An expired file is purged so much later, so that no download in progress is cut off."""
_CHECK_TTL_S: Final = 60
_CHECK_BYTES: Final = 4096
S3_LOCATION: Final = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>[A-Za-z0-9!_.*'()/-]*))?"
)
"""A bucket and a key prefix, by S3's naming rules and of characters that need no quoting."""


@dataclass(frozen=True)
class StoredFile:
    """A file that has not expired: its name, size in bytes, and remaining TTL in seconds."""

    name: str
    size: int
    ttl_s: float

    @property
    def token(self) -> str:
        """The name without its extension, unique for all time."""
        return self.name.partition(".")[0]

    @property
    def extension(self) -> str:
        """png, jpg, webp, heic, avif, or bin for a file that is not served."""
        return self.name.partition(".")[2]


class Store(ABC):
    """Files whose names hold their expiry. Safe to share between threads, processes and machines.

    Every method but `check` and `delete` raises `StoreUnavailable` when the backend does not answer or is full, and its
    subclass `StoreRefused` when it denies access.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` returns seconds since the epoch; all processes that share a store must share it."""
        self._clock = clock

    def check(self) -> None:
        """Self-test at start: write a file, read it back whole and in part, remove it.

        Raises `SettingsError` if the backend denies access or returns other bytes than were written. One that does not
        answer yet is only logged.
        """
        try:
            self.round_trip()
        except StoreRefused as error:
            raise SettingsError(f"FACELIGHT_STORE: {error}") from error
        except StoreUnavailable as error:
            _log.error("the result store is not available yet: %s", error)

    def put(self, data: bytes, extension: str, ttl_s: float, owner: str = "") -> str:
        """Write a file atomically and durably; returns its name. It expires in `ttl_s` seconds, rounded up.

        With an owner it is private: see `may_read`.
        """
        with self.staged(data, extension, ttl_s, owner) as name:
            return name

    @contextmanager
    def staged(self, data: bytes, extension: str, ttl_s: float, owner: str = "") -> Iterator[str]:
        """Write a file as `put` does: visible at once, and durable after the block.

        So the block runs while the disk syncs. The file is deleted if the block raises.
        """
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        tag = f"-{_tag(token, owner)}" if owner else ""
        name = f"{token}-{math.ceil(self._clock() + ttl_s)}{tag}.{extension}"
        with self._written(name, data):
            try:
                yield name
            except BaseException:  # also an interruption: no file may remain without its request
                self.delete(name)
                raise

    def find(self, name: str) -> StoredFile | None:
        """Look a file up; None if it does not exist, has expired, or `name` is not well-formed."""
        ttl_s = self._ttl_s(name)
        size = self._size(name) if ttl_s > 0 else None
        return StoredFile(name, size, ttl_s) if size is not None else None

    def read(self, name: str) -> bytes | None:
        """Read a whole file; None as for `find`."""
        return self._read(name) if self._ttl_s(name) > 0 else None

    @abstractmethod
    def open(self, found: StoredFile, start: int, length: int) -> Iterator[bytes] | None:
        """Open a file to stream `length` bytes from offset `start` in chunks; None if it does not exist any more.

        An open file is read to the end, even if it is deleted meanwhile. The range must be non-empty and within the
        file.
        """

    def path_of(self, found: StoredFile) -> str | None:  # noqa: ARG002 - for subclasses
        """Path below the store's folder, for a proxy that reads it, too; None for a store without a folder."""
        return None

    def delete(self, name: str) -> None:
        """Delete a file. Never fails: a file that cannot be deleted expires all the same."""
        if not is_name(name):
            return
        try:
            self._remove(name)
        except StoreUnavailable as error:
            _log.warning("a file cannot be deleted before it expires: %s", error)

    @abstractmethod
    def purge_expired(self) -> int:
        """Delete files past their grace period, and partial files of crashed writers; returns how many."""

    def _is_purgeable(self, name: str) -> bool:
        """Whether `name` is that of a file whose grace period after expiry is over."""
        return is_name(name) and self._ttl_s(name) < -_GRACE_S

    def _ttl_s(self, name: str) -> float:
        """Seconds until the file expires; minus infinity if `name` is not well-formed."""
        return expires_at(name) - self._clock()

    def round_trip(self) -> None:
        """Write a file, read it back whole and in part, remove it; raises `StoreRefused` if other bytes come back."""
        data = secrets.token_bytes(_CHECK_BYTES)
        name = self.put(data, "bin", _CHECK_TTL_S)
        try:
            difference = self._compare(name, data)
        finally:
            self._remove(name)
        if difference:
            raise StoreRefused(difference)

    def _compare(self, name: str, written: bytes) -> str:
        """How a file reads back otherwise than it was written; empty if it is identical."""
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
        part = self.open(StoredFile(name, len(written), _CHECK_TTL_S), start, length)
        if part is None or b"".join(part) != written[start : start + length]:
            return "a part of a file comes back as other bytes than were written there."
        return ""

    def _cause(self, written: bytes, read: bytes) -> str:  # noqa: ARG002 - for subclasses
        """The likely cause of a difference, and its remedy."""
        return "The place where files lie, or something on the way, changes them."

    @abstractmethod
    def _written(self, name: str, data: bytes) -> AbstractContextManager[None]:
        """Write a file atomically; it is durable after the block, and deleted if that fails."""

    @abstractmethod
    def _size(self, name: str) -> int | None: ...

    @abstractmethod
    def _read(self, name: str) -> bytes | None: ...

    @abstractmethod
    def _remove(self, name: str) -> None: ...


def is_name(text: str) -> bool:
    """Whether `text` is a well-formed name."""
    return _NAME.fullmatch(text) is not None


def expires_at(name: str) -> float:
    """Seconds since the epoch at which the file of that name expires; minus infinity if `name` is not well-formed."""
    found = _NAME.fullmatch(name)
    return int(found["expires"]) if found else -math.inf


def is_private(name: str) -> bool:
    """Whether `name` is that of a private file."""
    found = _NAME.fullmatch(name)
    return found is not None and found["tag"] is not None


def may_read(name: str, owner: str) -> bool:
    """Whether `owner` may read the file of that name, which is public or their own."""
    found = _NAME.fullmatch(name)
    return found is not None and found["tag"] in (None, _tag(found["token"], owner))


def _tag(token: str, owner: str) -> str:
    return sha256(f"{token}:{owner}".encode()).hexdigest()[:16]
