"""Which kind of result store a location names."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from workers.store.base import S3_LOCATION, Store
from workers.store.folder import FolderStore

if TYPE_CHECKING:
    from workers.store.presigned import PresignedUrls


def open_store(location: str, clock: Callable[[], float] = time.time) -> Store:
    """The store at `location`, a folder or `s3://bucket/prefix`; nothing is written yet.

    `clock` tells the seconds since the epoch; processes that share a store must share it. Raises `SettingsError` if
    boto3's own settings do not fit together.
    """
    if found := S3_LOCATION.fullmatch(location):
        from workers.store.s3 import S3Store  # boto3 takes half a second to import: only those wait who use it

        return S3Store(found["bucket"], found["prefix"] or "", clock)
    return FolderStore(Path(location), clock)


def open_presigned(location: str, endpoint: str) -> PresignedUrls:
    """Presigned URLs of the pictures at `location`, a bucket that callers reach by the URL `endpoint`.

    Raises `SettingsError` as `open_store`, `ValueError` if the location is no bucket.
    """
    if not (found := S3_LOCATION.fullmatch(location)):
        raise ValueError(f"{location} is no bucket: presigned URLs need one, such as s3://bucket/prefix")
    from workers.store.presigned import PresignedUrls  # see above

    return PresignedUrls(found["bucket"], found["prefix"] or "", endpoint)
