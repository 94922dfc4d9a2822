"""One session with a server that is cut off from the network; prints what was answered, as JSON.

`python -m tests.offline.session DATA_DIR WEIGHTS`. Alone in a network namespace it brings up loopback first.
"""

from __future__ import annotations

import fcntl
import json
import re
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from skimage import data

from tests.contract.pictures import post, size
from tests.live_server import LiveServer, live_server, png

_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 1
_ELSEWHERE = "http://93.184.216.34/photo.png"
_SMALL = {"prompt": "warm light", "width": 256, "height": 256, "steps": 1, "output_format": "png", "seed": 1}
_PHOTOS = {"pulid-lightning": ("face_image", data.astronaut), "ic-light": ("subject_image", data.chelsea)}


def bring_up_loopback() -> None:
    """A new network namespace has a loopback interface that is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        _, flags = struct.unpack("16sH14x", answer)
        if not flags & _IFF_UP:
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


def interfaces() -> list[str]:
    """Names of this namespace's network interfaces."""
    return [name for _, name in socket.if_nameindex()]


def session(server: LiveServer) -> dict[str, Any]:
    """Ask for all there is."""
    page = httpx.get(f"{server.url}/docs").text
    addresses = [*re.findall(r"(?:src|href)=\"([^\"]+)\"", page), "openapi.json"]
    assets = {address: httpx.get(f"{server.url}/{address}").status_code for address in addresses}
    answers = {slug: post(server, slug, {field: png(photo())}, **_SMALL) for slug, (field, photo) in _PHOTOS.items()}
    fetched = httpx.post(f"{server.url}/v1/ic-light", json={**_SMALL, "subject_image": _ELSEWHERE})
    return {
        "interfaces": interfaces(),
        "ready": httpx.get(f"{server.url}/health/ready").json(),
        "assets": assets,
        "pictures": {slug: (answer.status_code, size(answer.content)) for slug, answer in answers.items()},
        "elsewhere": (fetched.status_code, fetched.json()["error"]),
    }


def attempt_to_leave() -> None:
    """Does what no process of the server may do, to see that it would be noticed."""
    with suppress(OSError):
        socket.create_connection(("192.0.2.1", 9), 1)


def main() -> None:
    """Run the session."""
    data_dir, weights = map(Path, sys.argv[1:])
    bring_up_loopback()
    attempt_to_leave()
    with live_server(data_dir, weights, offline="1", fetch_allow_cidrs="") as server:
        server.wait_until_ready()
        json.dump(session(server), sys.stdout)


if __name__ == "__main__":
    main()
