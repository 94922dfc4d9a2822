"""The result store in a bucket of Amazon S3, or of a server that speaks its protocol.

Where the server is and who asks is said by boto3's own variables and files (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID,
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
"""How S3 says that there is no such object: to GET, and to HEAD, whose answer has no body to say more."""
_PASSING: Final = (
    BotoConnectionError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
)
"""What may be well a moment later, unlike boto3's other errors: no credentials, a malformed address, …"""
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
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        try:
            self._s3 = boto3.session.Session().client("s3", config=_CONFIG)
        except (BotoCoreError, ValueError) as error:
            raise SettingsError(f"FACELIGHT_STORE: {error}") from error

    def open(self, found: StoredFile, start: int, length: int) -> Iterator[bytes] | None:
        """See `Store.open`."""
        part = f"bytes={start}-{start + length - 1}"
        answer = self._get(found.name, Range=part)
        return self._chunks(answer["Body"]) if answer else None

    def purge_expired(self) -> int:
        """See `Store.purge_expired`. A page of the listing, up to 1000 objects, is removed by one call."""
        with self._translated():
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
            return sum(self._remove_expired(page.get("Contents", ())) for page in pages)

    def _probe(self) -> None:
        with self._translated():  # an answer to a listing says what is wrong in more words than the others
            self._s3.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
        super()._probe()

    def _complaint(self, name: str, written: bytes) -> str:
        try:
            complaint = super()._complaint(name, written)
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, FlexibleChecksumError):
                raise
            complaint = f"what was written comes back changed: {error.__cause__}."
        return complaint and f"bucket {self._bucket}: {complaint}"

    def _cause(self, written: bytes, read: bytes) -> str:
        return _FRAMED if written in read else super()._cause(written, read)

    @contextmanager
    def _written(self, name: str, data: bytes) -> Iterator[None]:
        with self._translated():
            self._s3.put_object(**self._object(name), Body=data)
        yield

    def _size(self, name: str) -> int | None:
        with self._translated():
            answer = self._unless_missing(self._s3.head_object, name)
            return int(answer["ContentLength"]) if answer else None

    def _read(self, name: str) -> bytes | None:
        answer = self._get(name)
        return b"".join(self._chunks(answer["Body"])) if answer else None

    def _remove(self, name: str) -> None:
        with self._translated():
            self._s3.delete_object(**self._object(name))

    def _get(self, name: str, **options: str) -> dict[str, Any] | None:
        with self._translated():
            return self._unless_missing(self._s3.get_object, name, **options)

    def _unless_missing(self, operation: Any, name: str, **options: str) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = operation(**self._object(name), **options)
        except ClientError as error:
            if error.response["Error"].get("Code") in _MISSING:
                return None
            raise
        return answer

    def _object(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + name}

    def _chunks(self, body: Any) -> Iterator[bytes]:
        with closing(body), self._translated():
            yield from body.iter_chunks(_CHUNK)

    def _remove_expired(self, listed: Any) -> int:
        names = [entry["Key"].removeprefix(self._prefix) for entry in listed]
        expired = [{"Key": self._prefix + name} for name in names if self._is_purgeable(name)]
        if not expired:
            return 0
        answer = self._s3.delete_objects(Bucket=self._bucket, Delete={"Objects": expired, "Quiet": True})
        if errors := answer.get("Errors", ()):
            _log.error("%d expired files cannot be removed: %s", len(errors), errors[0].get("Message"))
        return len(expired) - len(errors)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Say in this room's errors what S3, or the way to it, complains about."""
        try:
            yield
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
            kind = StoreRefused if status < 500 and status != 429 else StoreUnavailable
            raise kind(f"bucket {self._bucket}: {error}") from error
        except BotoCoreError as error:
            kind = StoreUnavailable if isinstance(error, _PASSING) else StoreRefused
            raise kind(f"bucket {self._bucket}: {error}") from error
