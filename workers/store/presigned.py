"""URLs by which callers download pictures from the S3 server itself, signed for each picture until it expires."""

from __future__ import annotations

import time
from typing import Any, Final

import boto3  # type: ignore[import-untyped]
from botocore import UNSIGNED  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]

from workers.errors import SettingsError, StoreRefused
from workers.store.base import expires_at, is_name
from workers.store.s3 import key_prefix

_LONGEST_S: Final = 7 * 86_400
"""S3 accepts no URL that is valid for longer."""


class PresignedUrls:
    """URLs of objects below `prefix` of `bucket`, on the server that callers reach by the URL `endpoint`.

    They are signed with the credentials of `workers.store.s3`. If those are of a role they end before the URL may, and
    so does the URL.
    """

    def __init__(self, bucket: str, prefix: str, endpoint: str) -> None:
        """Raises `SettingsError` if boto3's own settings do not fit together."""
        self._bucket, self._prefix = bucket, key_prefix(prefix)
        try:
            session = boto3.session.Session()
            self._signing = session.client("s3", endpoint_url=endpoint, config=Config(signature_version="s3v4"))
            unsigned = session.client("s3", endpoint_url=endpoint, config=Config(signature_version=UNSIGNED))
            self._base = self._url(unsigned, "x", {}, 1).removesuffix("x")
        except (BotoCoreError, ValueError) as error:
            raise SettingsError(f"FACELIGHT_PRESIGNED_ENDPOINT: {error}") from error

    def of(self, name: str, media_type: str) -> str:
        """The URL of the picture `name`; its answer has the header `Content-Type: media_type`.

        Raises `StoreRefused` without credentials.
        """
        ttl_s = min(max(int(expires_at(name) - time.time()), 1), _LONGEST_S)
        try:
            return self._url(self._signing, name, {"ResponseContentType": media_type}, ttl_s)
        except BotoCoreError as error:
            raise StoreRefused(f"bucket {self._bucket}: {error}") from error

    def file_name(self, url: str) -> str | None:
        """Name of the picture that `url` is the URL of, whether or not its signature is valid; None if it is none."""
        name = url.partition("?")[0].removeprefix(self._base)
        return name if is_name(name) else None

    def _url(self, client: Any, name: str, options: dict[str, str], ttl_s: int) -> str:
        parameters = {"Bucket": self._bucket, "Key": self._prefix + name, **options}
        return str(client.generate_presigned_url("get_object", parameters, ttl_s))
