"""A whole server as a user starts it: `facelight serve` with its Redis, worker and gateway, and a host of photos."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import psutil
from PIL import Image
from skimage import data

FACELIGHT = Path(sys.executable).with_name("facelight")
API_KEY = "SG_0123456789abcdef"


class LiveServer:
    """A running `facelight serve` process."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.log = log

    def children(self) -> dict[str, psutil.Process]:
        """Redis, worker and gateway by name, as they run now."""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            command = " ".join(child.cmdline())
            names = {"redis": "redis-server", "worker": "-m workers", "gateway": "-m server"}
            found |= {name: child for name, mark in names.items() if mark in command}
        return found

    def wait_until_ready(self, *slugs: str, timeout_s: float = 120) -> None:
        """Return when every model, or each of `slugs`, can be served; fail with the log if that takes too long."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                models = httpx.get(f"{self.url}/health/ready").json()["models"]
                if all(models[slug]["ready"] for slug in slugs or models):
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
        raise AssertionError(f"the server did not get ready:\n{self.log.read_text()}")


@contextmanager
def live_server(
    data_dir: Path, weights: Path | None, *, command: Path = FACELIGHT, **settings: str
) -> Iterator[LiveServer]:
    """Start a server on a free port, in `data_dir`; `settings` are FACELIGHT_* variables without the prefix.

    `command` is the `facelight` of an installation. Without `weights` the server builds demo weights of its own, as on
    a fresh checkout.
    """
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FACELIGHT_")} | {
        "FACELIGHT_DATA_DIR": str(data_dir),
        "FACELIGHT_WEIGHTS_DIR": str(weights or ""),
        "FACELIGHT_PORT": str(port),
        "FACELIGHT_FETCH_ALLOW_CIDRS": "127.0.0.0/8",
        "FACELIGHT_DRAIN_DELAY_S": "0",
        **{f"FACELIGHT_{name.upper()}": value for name, value in settings.items()},
    }
    data_dir.mkdir(parents=True, exist_ok=True)
    log = data_dir / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [command, "serve"], cwd=data_dir, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield LiveServer(process, f"http://127.0.0.1:{port}", log)
    finally:
        process.terminate()
        process.wait(60)


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def photo_host(folder: Path) -> Iterator[str]:
    """Serve `folder` over HTTP on the loopback address; yields the URL."""
    handler = partial(_QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Keep the test output clean."""


def png(pixels: np.ndarray) -> bytes:
    """Encode an array as PNG."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def write_photos(folder: Path) -> None:
    """The photos that tests send: one face, a cat, a cup, and a flat picture without anything."""
    pictures = {
        "face.png": data.astronaut(),
        "cat.png": data.chelsea(),
        "cup.png": data.coffee(),
        "flat.png": np.full((256, 256, 3), 127, np.uint8),
    }
    for name, pixels in pictures.items():
        (folder / name).write_bytes(png(pixels))
