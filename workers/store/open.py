"""Which kind of result store a location names."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from workers.store.base import S3_LOCATION, Store
from workers.store.folder import FolderStore


def open_store(location: str, clock: Callable[[], float] = time.time) -> Store:
    """The store at `location`, a folder or `s3://bucket/prefix`; nothing is written yet.

    `clock` tells the seconds since the epoch; processes that share a store must share it. Raises `SettingsError` if
    boto3's own settings do not fit together.
    """
    if found := S3_LOCATION.fullmatch(location):
        from workers.store.s3 import S3Store  # boto3 takes half a second to import: only those wait who use it

        return S3Store(found["bucket"], found["prefix"] or "", clock)
    return FolderStore(Path(location), clock)
