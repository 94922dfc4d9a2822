"""Absolute URLs of this server, as its clients can reach it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers

from server.schemas import RequestUrls

if TYPE_CHECKING:
    from workers.store.presigned import PresignedUrls

_HOST: Final = re.compile(
    r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,252}|\[(?P<ipv6>[0-9A-Fa-f:.]+)\])(?::(?P<port>[0-9]{1,5}))?"
)
_PREFIX: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
FILES: Final = "/files/"
REQUEST_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class UrlBuilder:
    """Builds URLs below `base`, and parses them; `aliases` are other base URLs by which clients reach this server.

    With `presigned` pictures of results have URLs of the bucket that they lie in.
    """

    base: str
    aliases: tuple[str, ...] = ()
    presigned: PresignedUrls | None = None

    def picture(self, name: str, media_type: str) -> str:
        """URL of a picture of a result; raises `StoreRefused` if it is to be presigned and cannot be."""
        return self.presigned.of(name, media_type) if self.presigned else self.file(name)

    def file(self, name: str) -> str:
        """URL by which this server sends a file of the store."""
        return f"{self.base}{FILES}{name}"

    def request(self, request_id: str) -> RequestUrls:
        """The three URLs of a request."""
        return {
            "poll_url": f"{self.base}/v1/requests/{request_id}",
            "status_url": f"{self.base}/v2/requests/{request_id}/status",
            "response_url": f"{self.base}/v2/requests/{request_id}",
        }

    def file_name(self, reference: str) -> str | None:
        """Name of the stored picture that `reference` (absolute, or relative to the host) means; None if it is none."""
        if reference.startswith(FILES):
            return urlsplit(reference).path.removeprefix(FILES)
        if not reference[:8].lower().startswith(("http://", "https://")):
            return None
        if self.presigned and (name := self.presigned.file_name(reference)):
            return name
        try:
            parts = urlsplit(reference)
            own = [urlsplit(base) for base in (self.base, *self.aliases)]
            prefixes = [base.path for base in own if _host_and_port(base) == _host_and_port(parts)]
        except ValueError:  # a malformed URL is none of ours
            return None
        return next((name for prefix in prefixes if (name := _below(prefix + FILES, parts.path))), None)


def base_url(scheme: str, headers: Headers, fallback: str) -> str:
    """Base URL by which a request reached the server, from its headers; malformed ones are ignored.

    `fallback` is the host to name when no header names one.
    """
    proto = _first(headers, "x-forwarded-proto").lower()
    prefix = _first(headers, "x-forwarded-prefix").rstrip("/")
    hosts = (_first(headers, "x-forwarded-host"), headers.get("host", ""))
    host = next((host for host in hosts if is_host(host)), fallback)
    return f"{proto if proto in _DEFAULT_PORTS else scheme}://{host}{prefix if _PREFIX.fullmatch(prefix) else ''}"


def _first(headers: Headers, name: str) -> str:
    """First value of a forwarding header: that of the outermost proxy."""
    return headers.get(name, "").split(",")[0].strip()


def is_host(host: str) -> bool:
    """Whether `host` is a name or an address, perhaps with a port, and nothing else."""
    found = _HOST.fullmatch(host)
    return found is not None and (not found["ipv6"] or _is_ipv6(found["ipv6"])) and int(found["port"] or 0) < 65_536


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _host_and_port(url: SplitResult) -> tuple[str | None, int | None]:
    return url.hostname, url.port or _DEFAULT_PORTS.get(url.scheme)


def _below(prefix: str, path: str) -> str | None:
    return path.removeprefix(prefix) if path.startswith(prefix) else None
