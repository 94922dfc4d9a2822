#!/usr/bin/env bash
# Pillow 13.0.0: the transparent level or colour of a PNG (tRNS) is kept in the file's samples, the pixels are not.
#
# Grey of 2 and 4 bits is decoded to 8 bits by spreading it over 0..255, RGB of 16 bits by taking the upper byte; the
# value of tRNS is left as it stands in the file, and converting to RGBA compares the two. So a transparent level of a
# 2-bit picture hides nothing, and a transparent colour of 16 bits hides the pixels whose upper bytes happen to equal
# its LOWER bytes, while the pixels that it names stay visible. Section 11.3.1.1 of the PNG specification (third
# edition) compares samples of the same depth.
#
# Why it matters: scans, masks and line art are stored so; what the file hides is drawn, and other pixels vanish.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0
"$folder/venv/bin/python" - <<'PYTHON'
import io
import struct
import sys
import zlib

import PIL
from PIL import Image


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def alpha(depth, colour_type, width, row, transparent):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, colour_type, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + row))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"tRNS", transparent) + pixels + chunk(b"IEND", b"")
    return list(Image.open(io.BytesIO(data)).convert("RGBA").getchannel("A").tobytes())


print("Pillow", PIL.__version__)
grey = {
    # the four levels 0, 1, 2, 3 in one byte; the levels 1 and 11 in one byte; level 1 is transparent
    2: (alpha(2, 0, 4, bytes([0b00011011]), struct.pack(">H", 1)), [255, 0, 255, 255]),
    4: (alpha(4, 0, 2, bytes([0x1B]), struct.pack(">H", 1)), [0, 255]),
}
# Two pixels: the transparent colour, and one whose upper bytes are the transparent colour's lower bytes.
hidden, other = (0x1234, 0x5678, 0x9ABC), (0x3401, 0x7801, 0xBC01)
rgb = alpha(16, 2, 2, struct.pack(">6H", *hidden, *other), struct.pack(">3H", *hidden)), [0, 255]
as_found = True
for name, (found, right) in {"grey, 2 bits": grey[2], "grey, 4 bits": grey[4], "RGB, 16 bits": rgb}.items():
    print(f"{name}: alpha {found}, by the specification {right}")
    as_found &= found != right
as_found &= rgb[0] == [255, 0] and grey[2][0] == [255] * 4 and grey[4][0] == [255] * 2
sys.exit(0 if as_found else "the behaviour has changed")
PYTHON
