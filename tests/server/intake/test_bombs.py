"""Pictures made to hurt: refused in words or read in bounded memory, by the gateway and by what workers decode with."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import httpx
import numpy as np
import pillow_heif
import psutil
import pytest
from PIL import Image, PngImagePlugin

from models.errors import UnreadableImage
from models.imaging import heif, heif_child
from models.imaging.decode import MAX_BYTES, MAX_MEMORY, MAX_PIXELS, decode, to_pixels
from models.imaging.encode import encode
from models.imaging.jpeg import MAX_SCANS
from models.imaging.picture_file import Format
from server.settings import GatewaySettings
from tests.server.http.test_drain import gateway
from tests.server.support import image_field, picture

RISE_MB = 200
_DECODE = """
import sys
from pathlib import Path
from models.errors import UnreadableImage
from models.imaging.decode import decode, to_pixels
import psutil
for path in map(Path, sys.argv[1:]):
    data = path.read_bytes()
    before = psutil.Process().memory_info().rss
    Path("/proc/self/clear_refs").write_text("5")  # begins a new peak
    try:
        to_pixels(decode(data))
    except UnreadableImage:
        pass
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(int(peak.split()[1]) * 1024 - before)
"""


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG file that says it is so large, with further chunks before its few compressed zeros."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000_000), 9)
    parts = [_chunk(b"IHDR", header), *chunks, _chunk(b"IDAT", pixels), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def webp_of(width: int, height: int) -> bytes:
    """The head of an extended WebP file that says it is so large."""
    extended = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBP" + b"VP8X" + struct.pack("<I", len(extended)) + extended + bytes(64)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def turned(width: int, height: int, form: str, mode: str = "RGB", **options: object) -> bytes:
    """A picture of one colour that lies on its side."""
    exif, out = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.new(mode, (width, height)).save(out, form, exif=exif, **options)
    return out.getvalue()


def heic(width: int, height: int) -> bytes:
    """A HEIC picture of one colour."""
    pillow_heif.register_heif_opener()  # for writing; the server does without
    return turned(width, height, "HEIF", quality=10, enc_params={"preset": "ultrafast"})


def claiming(data: bytes, width: int, height: int) -> bytes:
    """A HEIC or AVIF file that says it is so large (ISO/IEC 23008-12, 6.5.3)."""
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", width, height) + data[at + 8 :]


def animation(width: int, height: int, frames: int) -> bytes:
    out = io.BytesIO()
    pictures = [Image.new("RGBA", (width, height), (number % 256, 0, 0, 255)) for number in range(frames)]
    pictures[0].save(out, "WEBP", save_all=True, append_images=pictures[1:])
    return out.getvalue()


def two_in_one(width: int, height: int, **options: object) -> bytes:
    """Two JPEG pictures in one file, as phones write them."""
    out = io.BytesIO()
    Image.new("RGB", (width, height)).save(
        out, "MPO", save_all=True, append_images=[Image.new("RGB", (16, 16))], **options
    )
    return out.getvalue()


def scans(count: int) -> bytes:
    """A progressive JPEG file whose last scan comes again and again."""
    data = turned(2000, 2000, "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


def one_colour_after_another(width: int, height: int) -> bytes:
    """The head of a sequential JPEG file whose first scan has one of its three components."""
    data = turned(16, 16, "JPEG")
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    sized = data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 : scan]
    return sized + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + bytes(64) + b"\xff\xd9"


SIDE = int((MAX_PIXELS - 1) ** 0.5)
BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "png of 2 gigapixels": (lambda: png_of(46_000, 46_000), "25 megapixels"),
    "png of 90 megapixels": (lambda: png_of(9_500, 9_500), "25 megapixels"),
    "png, one long line": (lambda: png_of(2**31 - 1, 16), "25 megapixels"),
    "png, text of 64 MB": (lambda: png_of(64, 64, _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**26)))), "accepted"),
    "png, profile of 64 MB": (
        lambda: png_of(64, 64, _chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**26)))),
        "accepted",
    ),
    "png, a hundred texts": (
        lambda: png_of(64, 64, *[_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**20))) for _ in range(100)]),
        "accepted",
    ),
    "png at the limit": (lambda: turned(SIDE, SIDE, "PNG"), "accepted"),
    "png with alpha at the limit": (lambda: turned(SIDE, SIDE, "PNG", "RGBA"), "accepted"),
    "png of 16 bits at the limit": (lambda: turned(SIDE, SIDE, "PNG", "I;16"), "accepted"),
    "png, interlaced and cut": (lambda: turned(SIDE, SIDE, "PNG")[:-5000], "damaged or cut short"),
    "jpeg at the limit": (lambda: turned(SIDE, SIDE, "JPEG"), "accepted"),
    "jpeg, progressive": (lambda: turned(SIDE, SIDE, "JPEG", progressive=True, subsampling=0), "20.0 megapixels"),
    "jpeg, progressive, smaller": (lambda: turned(4400, 4400, "JPEG", progressive=True, subsampling=0), "accepted"),
    "jpeg, progressive, four colours": (lambda: turned(SIDE, SIDE, "JPEG", "CMYK", progressive=True), "16.7 mega"),
    "jpeg, one colour after another": (lambda: one_colour_after_another(SIDE, SIDE), "20.0 megapixels"),
    "jpeg of many scans": (lambda: scans(MAX_SCANS), f"{MAX_SCANS} scans"),
    "webp of 268 megapixels": (lambda: webp_of(16_384, 16_384), "25 megapixels"),
    "webp": (lambda: turned(SIDE, SIDE, "WEBP", lossless=True), "12.5 megapixels"),
    "webp, smaller": (lambda: turned(3500, 3500, "WEBP", lossless=True), "accepted"),
    "heic at the limit": (lambda: heic(5712, 4284), "accepted"),
    "heic that claims 900 megapixels": (lambda: claiming(heic(64, 64), 30_000, 30_000), "25 megapixels"),
    "avif at the limit": (lambda: turned(5712, 4284, "AVIF", speed=10), "accepted"),
    "avif of all colours": (lambda: turned(5712, 4284, "AVIF", speed=10, subsampling="4:4:4"), "than 200 MB"),
    "avif that claims 144 megapixels": (lambda: claiming(turned(64, 64, "AVIF"), 12_000, 12_000), "25 megapixels"),
    "two progressive jpegs in one file": (
        lambda: two_in_one(SIDE, SIDE, progressive=True, subsampling=0),
        "20.0 megapixels",
    ),
    "jpeg of many scans, a film behind it": (lambda: scans(MAX_SCANS) + bytes(1000), f"{MAX_SCANS} scans"),
    "webp of many frames": (lambda: animation(2000, 2000, 40), "accepted"),
}
"""By name: the file, and a word of its refusal, or `accepted`."""


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow if name == "heic at the limit" else ()) for name in BOMBS],
)
def bomb(request: pytest.FixtureRequest) -> tuple[bytes, str]:
    return bomb_of(request.param), BOMBS[request.param][1]


@cache
def bomb_of(name: str) -> bytes:
    data = BOMBS[name][0]()
    assert len(data) < 2 * 1024**2, "a bomb is small"
    return data


class Peak:
    """The most memory that a process has had while the block lasted, in MiB above what it had before."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._before = self._process.memory_info().rss
        self._status = Path(f"/proc/{pid}/status")
        self.rise_mb = 0.0

    def __enter__(self) -> Peak:
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")  # begins a new peak
        return self

    def __exit__(self, *_: object) -> None:
        peak = next(line for line in self._status.read_text().splitlines() if line.startswith("VmHWM"))
        self.rise_mb = int(peak.split()[1]) / 1024 - self._before / 1024**2


@pytest.fixture(scope="module")
def process(redis_socket: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, str]]:
    """Number and URL of a gateway process that has read a picture before."""
    settings = GatewaySettings(redis_url=f"unix://{redis_socket}", data_dir=tmp_path_factory.mktemp("bombs"))
    with gateway(settings, queue_limit=100_000) as (child, url):
        send(url, picture(1000, 1000))
        yield child.pid, url


def send(url: str, data: bytes, slug: str = "ic-light") -> httpx.Response:
    return httpx.post(f"{url}/v2/{slug}", data={"prompt": "p"}, files={image_field(slug): ("x", data)}, timeout=60)


def test_the_gateway(
    process: tuple[int, str], bomb: tuple[bytes, str], record_property: Callable[[str, object], None]
) -> None:
    pid, url = process
    data, outcome = bomb
    with Peak(pid) as peak:
        answer = send(url, data)
    if outcome == "accepted":
        assert answer.status_code == 200, answer.text
    else:
        assert answer.status_code == 400
        assert outcome in answer.json()["error"]
    record_property("memory_rise_in_MB", peak.rise_mb)
    assert peak.rise_mb <= RISE_MB


def test_what_workers_decode_with(tmp_path: Path) -> None:
    """All in one process; what one leaves behind counts as the next one's beginning."""
    paths = [tmp_path / f"{number}" for number in range(len(BOMBS))]
    for path, name in zip(paths, BOMBS, strict=True):
        path.write_bytes(bomb_of(name))
    done = subprocess.run([sys.executable, "-c", _DECODE, *paths], capture_output=True, text=True, check=True)
    rises = {name: int(rise) / 1024**2 for name, rise in zip(BOMBS, done.stdout.split(), strict=True)}
    assert not {name: rise for name, rise in rises.items() if rise > RISE_MB}


@pytest.mark.parametrize(("kind", "make"), [("HEIC", heic), ("AVIF", lambda *size: turned(*size, "AVIF", speed=10))])
def test_the_process_that_decodes_heic_and_avif(kind: str, make: Callable[..., bytes]) -> None:
    data = make(4032, 3024)
    command = [sys.executable, "-I", heif_child.__file__, kind, str(MAX_PIXELS), str(MAX_MEMORY), "PIXELS"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(data)
        child.stdin.close()
        assert b'"size": [' in child.stdout.readline(), "it has decoded, and waits for its pixels to be read"
        status = Path(f"/proc/{child.pid}/status").read_text()
        child.kill()
    assert int(status.partition("VmHWM:")[2].split()[0]) * 1024 <= MAX_MEMORY


@pytest.mark.parametrize(("kind", "make"), [("HEIC", heic), ("AVIF", lambda *size: turned(*size, "AVIF", speed=10))])
def test_its_memory_is_bounded_by_the_system(kind: Format, make: Callable[..., bytes]) -> None:
    with pytest.raises(UnreadableImage, match="takes more than 1 MB"):
        heif.load(make(4032, 3024), kind, MAX_PIXELS, 1_000_000, with_pixels=True)


def test_many_at_once(process: tuple[int, str]) -> None:
    """Only so many are decoded at the same time, however many arrive."""
    pid, url = process
    data = turned(3500, 3500, "WEBP", lossless=True)
    with Peak(pid) as peak:
        threads = [threading.Thread(target=send, args=(url, data)) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert peak.rise_mb <= 4 * RISE_MB + 100


@pytest.mark.parametrize("form", ["GIF", "BMP", "TIFF", "ICO", "PPM", "TGA", "PCX", "EPS", "PDF", "JPEG2000"])
def test_other_formats(process: tuple[int, str], form: str) -> None:
    out = io.BytesIO()
    try:
        Image.new("RGB", (64, 64)).save(out, form)
    except (KeyError, OSError):
        pytest.skip(f"Pillow cannot write {form} here")
    answer = send(process[1], out.getvalue())
    assert answer.status_code == 400
    assert "not a readable JPEG, PNG, WebP, HEIC or AVIF" in answer.json()["error"]


def _large_metadata() -> dict[str, bytes]:
    exif = Image.Exif()
    exif[0x010E] = "x" * 60_000
    exif[0x0112] = 99
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "<script>" * 1000)
    text.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="99"/>' * 100)
    garbage = b"Exif\0\0" + b"\xff" * 1000
    return {
        "jpeg exif": picture(64, 64, "JPEG", exif=exif.tobytes()),
        "jpeg broken exif": picture(64, 64, "JPEG", exif=garbage),
        "jpeg profile": picture(64, 64, "JPEG", icc_profile=b"\0" * 60_000),
        "jpeg comment": picture(64, 64, "JPEG", comment=b"\xff\xfe" * 1000),
        "png text": picture(64, 64, "PNG", pnginfo=text, exif=exif.tobytes(), icc_profile=b"not a profile"),
        "webp": picture(64, 64, "WEBP", exif=garbage, icc_profile=b"\0" * 60_000, xmp=b"<" * 60_000),
    }


@pytest.mark.parametrize("name", _large_metadata())
def test_hostile_metadata_is_ignored(process: tuple[int, str], name: str) -> None:
    assert send(process[1], _large_metadata()[name]).status_code == 200


@pytest.mark.parametrize("form", ["png", "jpg", "webp"])
def test_nothing_of_it_comes_out_again(form: str) -> None:
    secret = "where it was taken"
    exif = Image.Exif()
    exif[0x010E] = secret
    data = picture(64, 64, "JPEG", exif=exif.tobytes(), comment=secret.encode(), icc_profile=secret.encode() * 10)
    out = encode(to_pixels(decode(data)), form, 80)  # type: ignore[arg-type]
    assert secret.encode() in data and secret.encode() not in out
    written = Image.open(io.BytesIO(out))
    assert not written.getexif() and not {"exif", "icc_profile", "comment", "xmp"} & set(written.info)


def test_strips_make_no_difference() -> None:
    pixels = np.arange(700 * 20 * 4, dtype=np.uint32).reshape(700, 20, 4).astype(np.uint8)
    whole = Image.fromarray(pixels, "RGBA")
    assert np.array_equal(to_pixels(whole), np.asarray(whole.convert("RGB")))


def test_large_files_are_refused_before_they_are_looked_at(process: tuple[int, str]) -> None:
    assert "larger than 20 MB" in send(process[1], b"\xff\xd8" + bytes(MAX_BYTES)).json()["error"]
