"""HTTP downloads that resume where they were interrupted.

The hub's own client is used for its addresses, its token and what it says of a file (`HF_ENDPOINT`, `HF_TOKEN`). Its
own downloads do not survive the end of the process, so the bytes are streamed here, by a client of our own: the hub's
would show other hosts what is meant for the hub. What requests are made, and what each tells, is in docs/weights.md.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final, TypeVar

from httpx2 import Client, HTTPError, Response, TransportError  # the exceptions of the hub's client
from huggingface_hub import constants, get_hf_file_metadata, get_token, hf_hub_url
from huggingface_hub.errors import OfflineModeIsEnabled

from cli.weights.items import Item
from models.errors import WeightsError
from models.weights.lock import HubSource

# Without this the client asks the hub for a list of agents, to tell it which of them runs this process.
constants.HF_HUB_DISABLE_TELEMETRY = True
USER_AGENT: Final = f"facelight/{version('facelight')}"
_CHUNK: Final = 1 << 16
"""Bytes; at most so many are lost with a connection."""
_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_PARTIAL: Final = 206
_RANGE_REFUSED: Final = 416
_SHA256_DIGITS: Final = 64
_MAX_PAUSE_S: Final = 60.0
_HINTS: Final[Mapping[int, str]] = {
    401: "it may be gated: accept its licence on its page and set HF_TOKEN",
    403: "it may be gated: accept its licence on its page and set HF_TOKEN",
    404: "it is not there, or not for this HF_TOKEN",
    407: "the proxy asks for a password",
}

ProgressCallback = Callable[[int], None]
"""Called with the number of bytes received (negative: discarded); may raise to stop the transfer."""
Result = TypeVar("Result")


@dataclass(frozen=True)
class RetryPolicy:
    """Attempts in a row that may fail without a byte; the first pause between them in seconds, then doubled."""

    attempts: int = 6
    pause_s: float = 1.0


@dataclass(frozen=True)
class RemoteInfo:
    """What a source reports of an object: `size` in bytes, and `sha256` or, for a small file, the git hash."""

    size: int | None = None
    sha256: str | None = None
    git_sha1: str | None = None


class _Transient(Exception):
    """A failure to retry, after `pause_s` seconds if the server sent Retry-After."""

    def __init__(self, reason: str, pause_s: float | None = None) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


class Network:
    """Objects as the hub and other servers give them."""

    def __init__(self, retry: RetryPolicy = RetryPolicy()) -> None:
        """`retry` is the policy for transient failures."""
        self._retry = retry
        self._headers = {"user-agent": USER_AGENT}
        token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
        # A token is the hub's business only; the client itself drops it when it is sent on to another host.
        self._hub_headers = {**self._headers, **({"authorization": f"Bearer {token}"} if token else {})}
        self._client = Client(follow_redirects=True, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT)

    def info(self, item: Item) -> RemoteInfo:
        """Ask the hub for an object's size and hash; other servers report none. Raises `WeightsError`."""
        if not isinstance(item.source, HubSource):
            return RemoteInfo(item.size)
        url = _hub_url(item.source, item.origin)
        return self._with_retries(item, lambda: _hub_info(url, self._hub_headers))

    def fetch(self, item: Item, part: Path, on_bytes: ProgressCallback) -> None:
        """Append the rest of the object to the partial file `part`; raises `WeightsError`."""
        hub = item.source if isinstance(item.source, HubSource) else None
        url = _hub_url(hub, item.origin) if hub else item.origin
        headers = self._hub_headers if hub else self._headers
        self._with_retries(item, lambda: _stream(self._client, url, headers, part, on_bytes), lambda: _size(part))

    def _with_retries(
        self, item: Item, attempt: Callable[[], Result], reached: Callable[[], int] = lambda: 0
    ) -> Result:
        failures, before = 0, reached()
        while True:
            try:
                return attempt()
            except _Transient as reason:
                after = reached()
                failures, before = (1 if after > before else failures + 1), after
                if failures >= self._retry.attempts:
                    raise WeightsError(
                        f"{item.label} cannot be fetched: {reason}, {failures} times in a row. "
                        "Run the same command again later: what has come is kept."
                    ) from reason
                time.sleep(_pause(self._retry.pause_s, failures, reason.pause_s))
            except (HTTPError, OfflineModeIsEnabled) as reason:
                raise WeightsError(f"{item.label} cannot be fetched: {reason}") from reason


def _hub_url(source: HubSource, origin: str) -> str:
    return hf_hub_url(source.repo, origin, revision=source.revision)


def _hub_info(url: str, headers: Mapping[str, str]) -> RemoteInfo:
    try:
        # The headers hold the token already, and looking for it again may be a request.
        found = get_hf_file_metadata(url, token=False, headers=dict(headers), timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except TransportError as error:
        raise _Transient(_describe(error)) from error
    except HTTPError as error:
        _check(getattr(error, "response", None))
        raise
    if found.etag is None or found.commit_hash is None:
        raise WeightsError(f"What answers at {url} is not a hub: check HF_ENDPOINT and the proxy.")
    # Large files are known by their sha256, those in the git repository itself by git's own hash.
    is_large = len(found.etag) == _SHA256_DIGITS
    return RemoteInfo(found.size, found.etag if is_large else None, None if is_large else found.etag)


def _stream(client: Client, url: str, headers: Mapping[str, str], part: Path, on_bytes: ProgressCallback) -> None:
    if constants.is_offline_mode():
        raise OfflineModeIsEnabled(f"{url} is not asked for: HF_HUB_OFFLINE is set")
    offset = _size(part)
    ranged = {**headers, "accept-encoding": "identity", **({"range": f"bytes={offset}-"} if offset else {})}
    try:
        with client.stream("GET", url, headers=ranged) as response:
            if offset and response.status_code == _RANGE_REFUSED:
                return  # nothing is left to send; whether it is right, its hash tells
            _check(response)
            if offset and not _continues(response, offset):
                part.unlink()
                on_bytes(-offset)
            _append(response, part, on_bytes)
    except TransportError as error:
        raise _Transient(_describe(error)) from error


def _append(response: Response, part: Path, on_bytes: ProgressCallback) -> None:
    with part.open("ab") as file:
        for chunk in response.iter_bytes(_CHUNK):
            file.write(chunk)
            on_bytes(len(chunk))
        file.flush()
        os.fsync(file.fileno())


def _continues(response: Response, offset: int) -> bool:
    content_range = response.headers.get("content-range", "")
    return response.status_code == _PARTIAL and content_range.startswith(f"bytes {offset}-")


def _check(response: Response | None) -> None:
    if response is None or response.status_code < 400:
        return
    status, host = response.status_code, response.request.url.host
    if status in _TRANSIENT:
        raise _Transient(f"{host} answers {status}", _retry_after(response))
    # Without its query, which may be a signature.
    url = response.request.url.copy_with(query=None)
    raise WeightsError(f"{url} cannot be fetched: {host} answers {status}{_hint(status)}.")


def _hint(status: int) -> str:
    return f" ({_HINTS[status]})" if status in _HINTS else ""


def _retry_after(response: Response) -> float | None:
    seconds = response.headers.get("retry-after", "")
    return float(seconds) if seconds.isdigit() else None


def _pause(first_s: float, failures: int, retry_after_s: float | None) -> float:
    doubled: float = first_s * 2 ** (failures - 1) * random.uniform(0.75, 1.25)
    return min(max(doubled, retry_after_s or 0.0), _MAX_PAUSE_S)


def _describe(error: Exception) -> str:
    return str(error) or type(error).__name__


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
