"""Proxies that serve the gateway below prefixes of their own, as an operator may."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.live_server import free_port

PREFIXES = ("/face", "/other")
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "host"}
_CADDYFILE = """
{{
    admin off
    auto_https off
}}
http://127.0.0.1:{port} {{
    {routes}
}}
"""
_ROUTE = """
    handle_path {prefix}/* {{
        reverse_proxy {upstream} {{
            header_up X-Forwarded-Prefix {prefix}
        }}
    }}
"""


@contextmanager
def small_proxy(upstream: str) -> Iterator[str]:
    """Serve `upstream` below each of `PREFIXES`, and nothing besides; yields the URL of the proxy."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            prefix = next((each for each in PREFIXES if self.path.startswith(f"{each}/")), None)
            if prefix is None:
                self.send_error(404)
                return
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
            headers |= {
                "X-Forwarded-Prefix": prefix,
                "X-Forwarded-Host": self.headers["Host"],
                "X-Forwarded-Proto": "http",
            }
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            url = upstream + self.path.removeprefix(prefix)
            with (
                suppress(OSError),  # the browser has left
                httpx.Client(trust_env=False, timeout=60) as client,
                client.stream(self.command, url, headers=headers, content=body) as answer,
            ):
                self.send_response(answer.status_code)
                for name, value in answer.headers.multi_items():
                    if name not in _HOP_BY_HOP:
                        self.send_header(name, value)
                self.end_headers()
                for chunk in answer.iter_raw():
                    self.wfile.write(chunk)

        do_HEAD = do_POST = do_DELETE = do_GET

        def log_message(self, *_: object) -> None:
            """Keep the test output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True  # a stream may be open
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@contextmanager
def caddy(upstream: str, folder: Path) -> Iterator[str]:
    """The same by Caddy, which many put before their servers."""
    command = shutil.which("caddy")
    if command is None:
        pytest.skip("no Caddy is installed (Debian's package `caddy`)")
    port = free_port()
    routes = "".join(_ROUTE.format(prefix=prefix, upstream=upstream) for prefix in PREFIXES)
    file = folder / "Caddyfile"
    file.write_text(_CADDYFILE.format(port=port, routes=routes))
    with (folder / "caddy.log").open("wb") as log:
        options = ["run", "--config", file, "--adapter", "caddyfile"]
        environment = {"HOME": str(folder), "PATH": "/usr/bin:/bin"}
        process = subprocess.Popen([command, *options], env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            with suppress(httpx.TransportError):
                httpx.get(f"{url}{PREFIXES[0]}/health/live", trust_env=False)
                break
            assert process.poll() is None, (folder / "caddy.log").read_text()
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(20)
