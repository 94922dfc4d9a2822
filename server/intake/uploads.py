"""Uploaded pictures: checked, counted against the caller's quota, and stored."""

from __future__ import annotations

from collections.abc import Sequence

from anyio.to_thread import run_sync

from models.errors import UnreadableImage
from server.errors import ImageUnavailable, InvalidParameters
from server.intake.images import ImageLoader
from server.limits import UploadQuota
from server.schemas import FieldError
from workers.store.base import Store


class Uploads:
    """Stores uploaded pictures for `ttl_s` seconds."""

    def __init__(self, images: ImageLoader, store: Store, quota: UploadQuota, ttl_s: int) -> None:
        self._images = images
        self._store = store
        self._quota = quota
        self._ttl_s = ttl_s

    async def add(self, data_urls: Sequence[str], owner: str) -> list[str]:
        """Store pictures of an owner; returns their names. All are checked before any is stored.

        Raises `InvalidParameters`, `TooManyRequests` or `StoreUnavailable`.
        """
        pictures = []
        for index, url in enumerate(data_urls):
            try:
                pictures.append(await self._images.load_data_url(url))
            except (ImageUnavailable, UnreadableImage) as error:
                raise InvalidParameters([FieldError(field=f"data_urls.{index}", message=str(error))]) from error
        return await run_sync(self._put, pictures, owner)

    def _put(self, pictures: Sequence[tuple[bytes, str]], owner: str) -> list[str]:
        self._quota.count(owner, sum(len(data) for data, _ in pictures))
        return [self._store.put(data, extension, self._ttl_s, owner) for data, extension in pictures]
