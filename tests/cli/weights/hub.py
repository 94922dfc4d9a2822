"""A stand-in for the hub and for other servers, on the loopback address, that fails on demand.

Small files come from the hub itself with their git hash as ETag; large ones are named by their sha256 and come from a
second server under another name, as from the hub's CDN. Both know byte ranges.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40
LARGE = 4096
"""Bytes from which a file is stored outside git."""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one GET: an error status, a cut after some bytes, or other content than announced."""

    status: int = 0
    cut_after: int | None = None
    flip: int | None = None
    truncate: int | None = None
    no_ranges: bool = False
    elsewhere: str = ""


@dataclass
class Seen:
    """One request as it came, and how many bytes of content were sent back so far."""

    method: str
    host: str
    path: str
    headers: dict[str, str]
    sent: int = 0


@dataclass
class Hub:
    """Both servers; `files`: contents by the path of their URL on the hub; `plain`: on any host, without metadata.

    `faults`: by the last part of a path, taken one by one. `bytes_per_s` slows everything down.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    plain: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=lambda: defaultdict(list))
    seen: list[Seen] = field(default_factory=list)
    bytes_per_s: float = float("inf")
    etags: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Hub:
        self._servers = [ThreadingHTTPServer((host, 0), _handler(self)) for host in ("127.0.0.1", "127.0.0.2")]
        for server in self._servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    @property
    def url(self) -> str:
        """The hub."""
        return f"http://127.0.0.1:{self._servers[0].server_port}"

    @property
    def cdn(self) -> str:
        """The second host."""
        return f"http://127.0.0.2:{self._servers[1].server_port}"

    def put(self, repo: str, revision: str, origin: str, data: bytes) -> None:
        """Publish a file on the hub."""
        self.files[f"/{repo}/resolve/{revision}/{origin}"] = data

    def sent(self, name: str = "") -> int:
        """Bytes sent so far of files whose path ends in `name`."""
        return sum(seen.sent for seen in self.seen if seen.path.endswith(name))

    def forget(self) -> None:
        """Begin counting anew."""
        self.seen.clear()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def log_message(self, *args: object) -> None:
            """Be silent."""

        def _answer(self, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            data = hub.files.get(path)
            fault = Fault()
            if body and (waiting := hub.faults[path.rsplit("/", 1)[-1]]) and not self._redirects(data):
                fault = waiting.pop(0)
            if fault.status:
                self._send(fault.status, {}, b"failed on demand", body)
            elif fault.elsewhere:
                self._send(302, {"Location": fault.elsewhere}, b"", body)
            elif data is None:
                found = hub.plain.get(path)
                self._send(404, {}, b"", body) if found is None else self._content(found, {}, body, fault)
            elif self._redirects(data):
                self._send(302, {**_metadata(hub, path, data), "Location": f"{hub.cdn}{path}"}, b"", body)
            else:
                self._content(data, _metadata(hub, path, data), body, fault)

        def _redirects(self, data: bytes | None) -> bool:
            return data is not None and len(data) >= LARGE and not self.headers["Host"].startswith("127.0.0.2")

        def _content(self, data: bytes, headers: dict[str, str], body: bool, fault: Fault) -> None:
            if fault.flip is not None:
                data = data[: fault.flip] + bytes([data[fault.flip] ^ 1]) + data[fault.flip + 1 :]
            if fault.truncate is not None:
                data = data[: fault.truncate]
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
            if not wanted or fault.no_ranges:
                self._send(200, headers, data, body, fault.cut_after)
            elif (start := int(wanted[1])) >= len(data):
                self._send(416, {"Content-Range": f"bytes */{len(data)}"}, b"", body)
            else:
                said = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
                self._send(206, headers | said, data[start:], body, fault.cut_after)

        def _send(self, status: int, headers: dict[str, str], data: bytes, body: bool, cut: int | None = None) -> None:
            # Entered before it is answered: whoever has the answer finds it here.
            seen = self._enter()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                if body:
                    self._write(data if cut is None else data[:cut], seen)
            except OSError:  # the client went away, or was killed
                self.close_connection = True
            if cut is not None:
                self.close_connection = True

        def _enter(self) -> Seen:
            host, path = self.headers["Host"], unquote(urlsplit(self.path).path)
            seen = Seen(self.command, host, path, {name.lower(): value for name, value in self.headers.items()})
            hub.seen.append(seen)
            return seen

        def _write(self, data: bytes, seen: Seen) -> None:
            step = 1 << 16 if hub.bytes_per_s == float("inf") else max(int(hub.bytes_per_s / 50), 1)
            for start in range(0, len(data), step):
                seen.sent += len(data[start : start + step])
                self.wfile.write(data[start : start + step])
                time.sleep(step / hub.bytes_per_s)

    return Handler


def _metadata(hub: Hub, path: str, data: bytes) -> dict[str, str]:
    """What the hub tells of a file: of its git object if it is small, else of what that object points to."""
    commit = {"X-Repo-Commit": COMMIT}
    if len(data) < LARGE:
        return {**commit, "ETag": f'"{hub.etags.get(path, git_sha1(data))}"'}
    linked = hub.etags.get(path, sha256(data))
    return {**commit, "X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{linked}"', "ETag": f'"{"e" * 40}"'}
