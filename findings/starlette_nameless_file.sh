#!/usr/bin/env bash
# Starlette 1.10.0 hands a picture that a multipart part carries without a file name to the application as text.
#
# RFC 7578 (section 4.2) makes "filename" optional, and section 4.4 has the part's Content-Type say what it is. Clients
# that build their bodies from bytes leave the name out. Starlette looks at "filename" alone: the bytes of a part with
# "Content-Type: image/png" come back as a str that was decoded as Latin-1, beside a form whose named twin is a file.
# It matters since nothing fails: a handler that takes files finds none, and one that takes text gets a mojibake that
# encodes back to the picture only if one knows the trick. This project parses the parts itself (server/intake/body.py).
#
# Exits with 0 as long as the behaviour is as described.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
  starlette==1.10.0 python-multipart==0.0.34 anyio==4.14.0 idna==3.15 typing_extensions==4.16.0
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

from starlette.datastructures import UploadFile
from starlette.requests import Request

PICTURE = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\xff\xfe"


def part(disposition: bytes) -> bytes:
    return b"--b\r\nContent-Disposition: form-data; " + disposition + b"\r\nContent-Type: image/png\r\n\r\n" + PICTURE


body = part(b'name="named"; filename="a.png"') + b"\r\n" + part(b'name="nameless"') + b"\r\n--b--\r\n"


async def receive() -> dict:
    return {"type": "http.request", "body": body, "more_body": False}


async def main() -> None:
    headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    async with Request({"type": "http", "method": "POST", "headers": headers}, receive).form() as form:
        named, nameless = form["named"], form["nameless"]
        print("starlette", version("starlette"), "python-multipart", version("python-multipart"))
        print("with a file name:   ", type(named).__name__, await named.read())
        print("without a file name:", type(nameless).__name__, repr(nameless))
        assert isinstance(named, UploadFile)
        assert isinstance(nameless, str) and nameless.encode("latin-1") == PICTURE


asyncio.run(main())
print("as described: a part that says image/png is text")
PYTHON
