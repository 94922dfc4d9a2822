"""Real files of cameras, phones and editors: what the gateway accepts the worker reads, and the model sees it right."""

from __future__ import annotations

import base64
import io
import logging
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.data import astronaut

from server.settings import GatewaySettings
from tests.models.imaging.files import (
    ODD_EXIF,
    chunk,
    display_p3,
    grey_gamma,
    odd_exif,
    orientation,
    png_file,
    riff,
    saved,
    scene,
    tiff,
    with_chunks,
    with_exif,
    with_segment,
    wrong,
    xmp,
)
from tests.server.intake.echo import EchoServer, Seen, echo_worker
from tests.server.support import Client
from workers.engine.stages import RequestStages

GREY = 127
"""What ic-light sees where a picture is transparent."""
PNG = saved(scene(), "PNG")
JPEG = saved(scene(), "JPEG", quality=95)
WEBP = saved(scene(), "WEBP", lossless=True)
UPRIGHT = np.asarray(scene())


@pytest.fixture(scope="module")
def stages(shared_settings: GatewaySettings) -> Iterator[RequestStages]:
    with echo_worker(shared_settings) as stages:
        yield stages


@pytest.fixture
def echo(client: Client, stages: RequestStages) -> EchoServer:
    return EchoServer(client, stages)


def pixels(data: bytes) -> Seen:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def turned(picture: Seen) -> Seen:
    """As orientation 6 asks for."""
    return np.rot90(picture, -1)


# ---- orientation: one tag is read, whatever else the metadata hold


@pytest.mark.parametrize("name", ODD_EXIF)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_turned_picture_with_odd_exif_is_turned(echo: EchoServer, form: str, name: str) -> None:
    exif = odd_exif(name)
    files = {
        "JPEG": with_exif(JPEG, exif),
        "PNG": with_chunks(PNG, chunk(b"eXIf", exif)),
        "WEBP": saved(scene(), "WEBP", lossless=True, exif=exif),
    }
    plain = {"JPEG": JPEG, "PNG": PNG, "WEBP": WEBP}[form]
    assert np.array_equal(echo.see(files[form]), turned(pixels(plain)))


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_are_read(echo: EchoServer, order: str) -> None:
    exif = tiff([orientation(8, order)], order)
    assert np.array_equal(echo.see(with_exif(JPEG, exif)), np.rot90(pixels(JPEG)))


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_an_orientation_that_only_xmp_tells_is_applied(echo: EchoServer, name: str) -> None:
    packet = xmp(6)
    files = {
        "JPEG": with_segment(JPEG, 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet),
        "PNG": with_chunks(PNG, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)),
        "WEBP": saved(scene(), "WEBP", lossless=True, xmp=packet),
    }
    plain = {"JPEG": JPEG, "PNG": PNG, "WEBP": WEBP}[name]
    assert np.array_equal(echo.see(files[name]), turned(pixels(plain)))


def test_exif_decides_over_xmp(echo: EchoServer) -> None:
    data = with_segment(JPEG, 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(3))
    assert np.array_equal(echo.see(with_exif(data, tiff([orientation(6)]))), turned(pixels(JPEG)))


@pytest.mark.parametrize("value", [0, 9, 65_535])
def test_an_orientation_that_does_not_exist_turns_nothing(echo: EchoServer, value: int) -> None:
    assert np.array_equal(echo.see(with_exif(JPEG, tiff([orientation(value)]))), pixels(JPEG))


def test_an_exif_segment_that_says_nothing_does_not_hide_the_next(echo: EchoServer) -> None:
    data = with_exif(JPEG, tiff([orientation(6)]))
    assert np.array_equal(echo.see(with_segment(data, 0xE1, b"Exif\0\0")), turned(pixels(JPEG)))
    assert np.array_equal(echo.see(with_exif(data, tiff([]))), turned(pixels(JPEG)))


# ---- PNG: ancillary chunks never decide

TEXT = b"Comment\0" + b"x" * 40
NOISE = np.random.default_rng(1).bytes(2_000_000)
HARMLESS = {
    "a large profile that is none": chunk(b"iCCP", b"big\0\0" + zlib.compress(NOISE)),
    "a profile that is no zlib stream": chunk(b"iCCP", b"icc\0\0" + b"not compressed"),
    "a large compressed text": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 3_000_000)),
    "a text that grows to 64 MB": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**26))),
    "a large international text": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"x" * 6_000_000)),
    "a text cut short": chunk(b"iTXt", b"XML:com.adobe.xmp\0"),
    "a wrong checksum in pHYs": wrong(chunk(b"pHYs", struct.pack(">IIB", 2835, 2835, 1))),
    "a wrong checksum in a text": wrong(chunk(b"tEXt", TEXT)),
    "a wrong checksum in gAMA": wrong(chunk(b"gAMA", struct.pack(">I", 45_455))),
    "a wrong checksum in a transparent colour": wrong(chunk(b"tRNS", bytes(6))),
    "a short transparent colour": chunk(b"tRNS", b"\0\0"),
    "an empty transparent colour": chunk(b"tRNS", b""),
    "sizes that are wrong": chunk(b"pHYs", b"\0") + chunk(b"cHRM", b"\0\0") + chunk(b"gAMA", b"") + chunk(b"sRGB", b""),
    "EXIF that is none": chunk(b"eXIf", b"\xff" * 1000),
    "a private chunk": chunk(b"prVt", b"x" * 1000),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_amiss_in_ancillary_chunks_makes_no_difference(echo: EchoServer, name: str) -> None:
    assert np.array_equal(echo.see(with_chunks(PNG, HARMLESS[name])), UPRIGHT)


@pytest.mark.parametrize("grey", [True, False])
@pytest.mark.parametrize("short", [b"", b"\0"])
def test_a_short_transparency_counts_as_absent(echo: EchoServer, grey: bool, short: bytes) -> None:
    width = 40
    rows = (b"\0" + bytes(range(width)) * (1 if grey else 3)) * 40
    data = png_file(width, 40, 8, 0 if grey else 2, rows, chunk(b"tRNS", short))
    seen = echo.see(data)
    assert seen[0, 0].tolist() == ([0, 0, 0] if grey else [0, 1, 2])


def test_a_transparency_longer_than_its_palette_counts_as_absent(echo: EchoServer) -> None:
    palette = chunk(b"PLTE", bytes([200, 10, 10, 10, 200, 10]))
    rows = (b"\0" + bytes([0, 1]) * 20) * 40
    seen = echo.see(png_file(40, 40, 8, 3, rows, palette, chunk(b"tRNS", bytes(3))))
    assert seen[0, :2].tolist() == [[200, 10, 10], [10, 200, 10]]


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"IDAT", b"IEND"])
def test_critical_chunks_stay_strict(echo: EchoServer, kind: bytes) -> None:
    data = saved(scene().convert("P"), "PNG")
    at = data.index(kind)
    (length,) = struct.unpack(">I", data[at - 4 : at])
    end = at + 4 + length
    broken = data[:end] + bytes([data[end] ^ 1]) + data[end + 1 :]
    refused = echo.submit(broken)
    assert refused.status_code == 400
    assert "damaged" in refused.json()["error"]


@pytest.mark.parametrize("palette", [b"", chunk(b"PLTE", bytes(7))], ids=["none", "7 bytes"])
def test_a_palette_that_cannot_be_one_is_refused(echo: EchoServer, palette: bytes) -> None:
    assert echo.submit(png_file(40, 40, 8, 3, bytes(41) * 40, palette)).status_code == 400


def test_an_unknown_critical_chunk_is_refused(echo: EchoServer) -> None:
    assert echo.submit(with_chunks(PNG, chunk(b"ABCD", b"x"))).status_code == 400


# ---- PNG: a transparent level means the samples of the file


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_grey_level_is_transparent(echo: EchoServer, depth: int) -> None:
    side, largest = 64, (1 << depth) - 1
    levels = np.tile(np.linspace(0, largest, side).round().astype(np.uint16), (side, 1))
    hidden = int(levels[0, side // 3])
    row = (
        levels[0].astype(">u2").tobytes()
        if depth == 16
        else np.packbits(np.unpackbits(levels[0].astype(np.uint8)[:, None], axis=1)[:, -depth:]).tobytes()
    )
    data = png_file(side, side, depth, 0, (b"\0" + row) * side, chunk(b"tRNS", struct.pack(">H", hidden)))
    expected = np.where(levels == hidden, GREY, np.round(levels * (255 / largest))).astype(int)
    seen = echo.see(data).astype(int)
    assert (levels == hidden).any() and not (levels == hidden).all()
    assert np.array_equal(seen[levels == hidden], np.full((int((levels == hidden).sum()), 3), GREY))
    assert np.abs(seen[..., 0] - expected).max() <= 1


def test_dark_grey_of_16_bits_stays_dark(echo: EchoServer) -> None:
    levels = np.full((40, 40), 200, ">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in levels)
    assert echo.see(png_file(40, 40, 16, 0, rows)).max() <= 1


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_colour_is_transparent(echo: EchoServer, depth: int) -> None:
    kind = ">u2" if depth == 16 else ">u1"
    hidden, other = [0x1234, 0x5678, 0x9ABC], [0x3412, 0x7856, 0xBC9A]
    if depth == 8:
        hidden, other = [sample >> 8 for sample in hidden], [sample >> 8 for sample in other]
    row = np.array([hidden, other] * 20).astype(kind).tobytes()
    data = png_file(40, 40, depth, 2, (b"\0" + row) * 40, chunk(b"tRNS", struct.pack(">3H", *hidden)))
    seen = echo.see(data)
    assert seen[0, 0].tolist() == [GREY] * 3
    assert seen[0, 1].tolist() == [sample >> (depth - 8) for sample in other]


# ---- JPEG: the bytes up to the end marker are the picture

MOVIE = b"ftypmp42" + bytes(range(256)) * 64 + b"\xff\xda" * 300 + b"\xff\xd9"


def test_a_film_behind_the_picture_makes_no_difference(echo: EchoServer) -> None:
    assert np.array_equal(echo.see(JPEG + MOVIE), pixels(JPEG))


def test_two_pictures_in_one_file_are_the_first(echo: EchoServer) -> None:
    second = scene().transpose(Image.Transpose.ROTATE_180)
    data = saved(scene(), "MPO", save_all=True, append_images=[second], quality=95)
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert np.array_equal(echo.see(data), pixels(data))


def test_a_file_of_two_pictures_can_be_uploaded(client: Client) -> None:
    data = saved(scene(), "MPO", save_all=True, append_images=[scene()])
    answer = client.post("/upload-asset", json={"data_urls": [_data_url(data)]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["urls"][0].endswith(".jpg")
    assert client.get(answer.json()["urls"][0]).content == data


def test_markers_inside_metadata_are_no_scans(echo: EchoServer) -> None:
    thumbnail = b"Exif\0\0" + tiff([orientation(1)]) + b"\xff\xda\xff\xd9" * 2000
    assert np.array_equal(echo.see(with_segment(JPEG, 0xE1, thumbnail)), pixels(JPEG))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_colours_of_every_kind_of_jpeg_stay_as_they_were(echo: EchoServer, mode: str) -> None:
    data = saved(scene().convert(mode), "JPEG", quality=95, icc_profile=None, dpi=(72, 72), comment=b"x")
    assert np.array_equal(echo.see(data), pixels(data))


# ---- WebP


def test_webp_with_metadata_cut_short_is_read(echo: EchoServer) -> None:
    data = saved(scene(), "WEBP", lossless=True, exif=tiff([orientation(6)]), xmp=xmp(6) * 20)
    assert np.array_equal(echo.see(data[:-1000]), turned(UPRIGHT))


def test_webp_with_chunks_that_are_not_known_is_read(echo: EchoServer) -> None:
    kind, length = WEBP[12:16], struct.unpack_from("<I", WEBP, 16)[0]
    assert np.array_equal(echo.see(riff((b"ABCD", b"xyz"), (kind, WEBP[20 : 20 + length]))), UPRIGHT)


# ---- HEIC and AVIF


def heif(picture: Image.Image, **options: object) -> bytes:
    pillow_heif.register_heif_opener()  # for writing; the server does without
    return saved(picture, "HEIF", quality=-1, chroma=444, **options)


def avif(picture: Image.Image, **options: object) -> bytes:
    return saved(picture, "AVIF", quality=100, subsampling="4:4:4", **options)


@pytest.mark.parametrize("slug", ["ic-light", "pulid-lightning"])
@pytest.mark.parametrize("write", [heif, avif])
def test_phones_pictures_are_read(echo: EchoServer, write, slug: str) -> None:
    seen = echo.see(write(scene()), slug)
    assert seen.shape == UPRIGHT.shape
    assert np.abs(seen.astype(int) - UPRIGHT).mean() < 1.5


@pytest.mark.parametrize("write", [heif, avif])
def test_their_transparency_is_kept(echo: EchoServer, write) -> None:
    picture = scene()
    picture.putalpha(Image.fromarray(np.where(np.arange(80)[None] < 40, 0, 255).astype(np.uint8).repeat(48, 0)))
    seen = echo.see(write(picture)).astype(int)
    assert np.abs(seen[:, :38] - GREY).max() <= 2
    assert np.abs(seen[:, 42:] - UPRIGHT[:, 42:]).mean() < 1.5


def test_heic_in_grey_of_more_than_8_bits_is_read(echo: EchoServer) -> None:
    levels = (np.arange(96 * 64).reshape(64, 96) * 10).astype(np.uint16)
    out = io.BytesIO()
    pillow_heif.from_bytes("I;16", (96, 64), levels.tobytes()).save(out, quality=-1)
    assert np.abs(echo.see(out.getvalue())[..., 0].astype(int) - levels // 257).max() <= 1


@pytest.mark.parametrize("value", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("write", [heif, avif])
def test_their_turns_are_applied_once(echo: EchoServer, write, value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    data = write(scene(), exif=exif.tobytes())
    expected = {
        1: UPRIGHT,
        2: UPRIGHT[:, ::-1],
        3: UPRIGHT[::-1, ::-1],
        4: UPRIGHT[::-1],
        5: UPRIGHT.transpose(1, 0, 2),
        6: turned(UPRIGHT),
        7: UPRIGHT[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(UPRIGHT),
    }[value]
    seen = echo.see(data)
    assert seen.shape == expected.shape
    assert np.abs(seen.astype(int) - expected).mean() < 1.5


@pytest.mark.parametrize("write", [heif, avif])
def test_their_odd_exif_makes_no_difference(echo: EchoServer, write) -> None:
    exif = Image.Exif()
    exif[0x010E] = "by the sea"
    data = write(scene(), exif=exif.tobytes())
    at = data.index(exif.tobytes()[6:14])
    damaged = data[: at + 4] + b"\xff\xff\xff\xff" + data[at + 8 :]
    assert np.array_equal(echo.see(damaged), echo.see(write(scene())))


@pytest.mark.parametrize(("write", "extension"), [(heif, "heic"), (avif, "avif")])
def test_they_can_be_uploaded(client: Client, write, extension: str) -> None:
    data = write(scene())
    (url,) = client.post("/upload-asset", json={"data_urls": [_data_url(data)]}).json()["urls"]
    answer = client.get(url)
    assert url.endswith(f".{extension}")
    assert (answer.content, answer.headers["content-type"]) == (data, f"image/{extension}")
    assert client.post("/v2/ic-light", json={"subject_image": url, "prompt": "p"}).status_code == 200


@pytest.mark.parametrize("write", [heif, avif])
def test_cut_short_they_are_refused(echo: EchoServer, write) -> None:
    data = write(Image.fromarray(astronaut()))
    refused = echo.submit(data[: len(data) // 2])
    assert refused.status_code == 400
    assert "damaged, cut short" in refused.json()["error"]


# ---- colours


def to_srgb_by_hand(p3: Seen) -> Seen:
    """Display P3 to sRGB by the two standards' numbers."""
    encoded = p3 / 255.0
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    matrix = [[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]]
    mixed = np.clip(linear @ np.array(matrix).T, 0, 1)
    srgb = np.where(mixed <= 0.0031308, mixed * 12.92, 1.055 * mixed ** (1 / 2.4) - 0.055)
    return np.round(srgb * 255).astype(np.uint8)


def difference(one: Seen, other: Seen) -> float:
    """Mean CIEDE2000."""
    return float(deltaE_ciede2000(rgb2lab(one), rgb2lab(other)).mean())


def with_profile(form: str, profile: bytes) -> bytes:
    photo = Image.fromarray(astronaut()[:256, 100:356])
    if form == "HEIC":
        return heif(photo, icc_profile=profile or None)
    lossless = {"PNG": {}, "JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    options = lossless.get(form, {"quality": 100, "subsampling": "4:4:4"})
    if form == "P":
        return saved(photo.quantize(256), "PNG", icc_profile=profile)
    if form == "RGBA":
        return saved(photo.convert("RGBA"), "PNG", icc_profile=profile)
    return saved(photo, form, icc_profile=profile, **options)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "HEIC", "AVIF", "P", "RGBA"])
def test_a_display_p3_photo_keeps_its_colours(echo: EchoServer, form: str) -> None:
    plain = echo.see(with_profile(form, b""))
    seen = echo.see(with_profile(form, display_p3()))
    expected = to_srgb_by_hand(plain)
    assert difference(plain, expected) > 1, "the profile makes a difference that can be seen"
    assert difference(seen, expected) <= 0.5


def test_a_grey_profile_is_applied(echo: EchoServer) -> None:
    grey = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (64, 1)))
    seen = echo.see(saved(grey, "PNG", icc_profile=grey_gamma(1.8)))[0, :, 0].astype(float)
    linear = (np.arange(256) / 255) ** 1.8
    expected = 255 * np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(seen - expected).max() <= 1.5


@pytest.mark.parametrize("form", ["PNG", "HEIF", "AVIF"])
def test_a_grey_profile_is_applied_to_grey_with_alpha(echo: EchoServer, form: str) -> None:
    pillow_heif.register_heif_opener()
    grey = Image.merge("LA", (Image.new("L", (64, 64), 55), Image.new("L", (64, 64), 255)))
    grey.putpixel((0, 0), (0, 0))
    options = {"PNG": {}, "HEIF": {"quality": -1}, "AVIF": {"quality": 100}}[form]
    seen = echo.see(saved(grey, form, icc_profile=grey_gamma(1.0), **options))
    assert abs(int(seen[40, 40, 0]) - 128) <= 2, "55 of 255, linear, are 128 in sRGB"


@pytest.mark.parametrize("numbers", [[b"\1\1"] * 2, [b"\0\1"], [b"\0\0"]], ids=["twice", "from 0", "of none"])
def test_a_profile_in_oddly_numbered_segments_is_applied(echo: EchoServer, numbers: list[bytes]) -> None:
    segments = [b"ICC_PROFILE\0" + number + display_p3() for number in numbers]
    data = JPEG
    for segment in segments:
        data = with_segment(data, 0xE2, segment)
    assert difference(echo.see(data), to_srgb_by_hand(pixels(JPEG))) <= 0.5


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "P", "RGBA"])
def test_srgb_stays_to_the_bit(echo: EchoServer, form: str) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(echo.see(with_profile(form, srgb)), echo.see(with_profile(form, b"")))


@pytest.mark.parametrize("profile", [b"\0" * 500, display_p3()[:200], grey_gamma(1.8)], ids=["zeros", "cut", "grey"])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_a_profile_that_cannot_be_used_is_ignored_and_logged(
    echo: EchoServer, form: str, profile: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "models.imaging.colour"):
        assert np.array_equal(echo.see(with_profile(form, profile)), echo.see(with_profile(form, b"")))
    assert "a colour profile" in caplog.text


# ---- sizes


@pytest.mark.parametrize("size", [(12_000, 16), (16, 5_200), (31, 31), (31, 500)])
def test_pictures_with_a_side_under_32_are_refused(echo: EchoServer, size: tuple[int, int]) -> None:
    for slug in ("ic-light", "pulid-lightning"):
        refused = echo.submit(saved(Image.new("RGB", size), "PNG"), slug)
        assert refused.status_code == 400
        assert f"{size[0]} x {size[1]} pixels; each side must have at least 32" in refused.json()["error"]
    assert echo.submit(saved(Image.new("RGB", (32, 32)), "PNG")).status_code == 200


def _data_url(data: bytes) -> str:
    return "data:image/x;base64," + base64.b64encode(data).decode()
