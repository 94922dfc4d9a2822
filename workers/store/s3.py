"""The result store in a bucket of Amazon S3, or of a server that speaks its protocol.

boto3's own variables and files name the endpoint and the credentials (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID,
AWS_DEFAULT_REGION, a role of the machine, …). Objects of other names below the same prefix are left alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Final

import boto3  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError

from workers.errors import SettingsError, StoreRefused, StoreUnavailable
from workers.store.base import Store, StoredFile

_log = logging.getLogger(__name__)
_CHUNK: Final = 256 * 1024
_MISSING: Final = {"NoSuchKey", "404"}
"""Error codes of a missing object: of GET, and of HEAD, whose response has no body with a code."""
_TRANSIENT: Final = (
    BotoConnectionError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
)
"""Errors that may pass by themselves, unlike boto3's others: no credentials, a malformed endpoint, …"""
_FRAMED: Final = (
    "The file is in them, between a trailing checksum's frames (aws-chunked): boto3 sends these over https, and this "
    "server does not know them. Set AWS_REQUEST_CHECKSUM_CALCULATION=when_required."
)
_CONFIG: Final = Config(
    connect_timeout=3,
    read_timeout=10,
    retries={"mode": "standard", "total_max_attempts": 3},
    max_pool_connections=40,  # as many as the gateway has threads
    user_agent_extra="facelight",
)


class S3Store(Store):
    """Objects called `<prefix>/<name>`."""

    def __init__(self, bucket: str, prefix: str, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._bucket, self._prefix = bucket, key_prefix(prefix)
        try:
            self._s3 = boto3.session.Session().client("s3", config=_CONFIG)
        except (BotoCoreError, ValueError) as error:
            raise SettingsError(f"FACELIGHT_STORE: {error}") from error

    def open(self, found: StoredFile, start: int, length: int) -> Iterator[bytes] | None:
        """See `Store.open`."""
        part = f"bytes={start}-{start + length - 1}"
        response = self._get(found.name, Range=part)
        if response and response["ContentLength"] != length:
            response["Body"].close()
            sent = response["ContentLength"]
            raise StoreRefused(f"bucket {self._bucket}: a part of {length} bytes was asked for, and {sent} bytes come.")
        return self._chunks(response["Body"]) if response else None

    def purge_expired(self) -> int:
        """See `Store.purge_expired`. A page of the listing, up to 1000 objects, is removed by one call."""
        with self._map_errors():
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
            return sum(self._remove_expired(page.get("Contents", ())) for page in pages)

    def round_trip(self) -> None:
        """See `Store.round_trip`."""
        with self._map_errors():  # a listing has the most detailed error
            self._s3.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
        super().round_trip()

    def _compare(self, name: str, written: bytes) -> str:
        try:
            difference = super()._compare(name, written)
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, FlexibleChecksumError):
                raise
            difference = f"what was written comes back changed: {error.__cause__}."
        return difference and f"bucket {self._bucket}: {difference}"

    def _cause(self, written: bytes, read: bytes) -> str:
        return _FRAMED if written in read else super()._cause(written, read)

    @contextmanager
    def _written(self, name: str, data: bytes) -> Iterator[None]:
        with self._map_errors():
            self._s3.put_object(**self._object(name), Body=data)
        yield

    def _size(self, name: str) -> int | None:
        with self._map_errors():
            response = self._unless_missing(self._s3.head_object, name)
            return int(response["ContentLength"]) if response else None

    def _read(self, name: str) -> bytes | None:
        response = self._get(name)
        return b"".join(self._chunks(response["Body"])) if response else None

    def _remove(self, name: str) -> None:
        with self._map_errors():
            self._s3.delete_object(**self._object(name))

    def _get(self, name: str, **options: str) -> dict[str, Any] | None:
        with self._map_errors():
            return self._unless_missing(self._s3.get_object, name, **options)

    def _unless_missing(self, operation: Any, name: str, **options: str) -> dict[str, Any] | None:
        try:
            response: dict[str, Any] = operation(**self._object(name), **options)
        except ClientError as error:
            if error.response["Error"].get("Code") in _MISSING:
                return None
            raise
        return response

    def _object(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + name}

    def _chunks(self, body: Any) -> Iterator[bytes]:
        with closing(body), self._map_errors():
            yield from body.iter_chunks(_CHUNK)

    def _remove_expired(self, listed: Any) -> int:
        names = [entry["Key"].removeprefix(self._prefix) for entry in listed]
        expired = [{"Key": self._prefix + name} for name in names if self._is_purgeable(name)]
        if not expired:
            return 0
        response = self._s3.delete_objects(Bucket=self._bucket, Delete={"Objects": expired, "Quiet": True})
        if errors := response.get("Errors", ()):
            _log.error("%d expired files cannot be removed: %s", len(errors), errors[0].get("Message"))
        return len(expired) - len(errors)

    @contextmanager
    def _map_errors(self) -> Iterator[None]:
        """Map errors of S3 and of boto3 to `StoreRefused` and `StoreUnavailable`."""
        try:
            yield
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
            kind = StoreRefused if status < 500 and status != 429 else StoreUnavailable
            raise kind(f"bucket {self._bucket}: {error}") from error
        except BotoCoreError as error:
            kind = StoreUnavailable if isinstance(error, _TRANSIENT) else StoreRefused
            raise kind(f"bucket {self._bucket}: {error}") from error


def key_prefix(prefix: str) -> str:
    """What the keys of all objects begin with: the prefix of a store's location, and a slash after it."""
    return f"{prefix.strip('/')}/" if prefix.strip("/") else ""
