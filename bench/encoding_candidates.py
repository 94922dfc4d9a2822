"""What else could encode pictures: every candidate's time and size against Pillow's default, to choose from again.

Run as `python -m bench.encoding_candidates`. Of the libraries weighed, `deflate` and `isal` are no dependencies of the
project: rows of those that are not installed are left out.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Final

import cv2
from zlib_ng import zlib_ng

from bench.cpu_encoding import fastest
from bench.photographs import Picture, by_pillow, photographs
from bench.report import Report, Row, row
from models.imaging.encode import encode

Encoder = Callable[[], bytes]
_ALL_FILTERS: Final = cv2.IMWRITE_PNG_ALL_FILTERS
_QUALITY: Final = 80


def rows() -> Iterator[Row]:
    """Two rows for each candidate and picture: its time and its size."""
    for name, picture in photographs().items():
        yield from _against(f"PNG, {name}", partial(by_pillow, picture, "PNG"), _png(picture))
        yield from _against(f"deflate alone, {name}", partial(by_pillow, picture, "PNG"), _deflate(picture))
        webp = partial(by_pillow, picture, "WEBP", quality=_QUALITY)
        methods: dict[str, Encoder] = {f"libwebp method {method}": partial(webp, method=method) for method in range(4)}
        yield from _against(f"WebP, {name}", webp, methods)
        jpeg = partial(by_pillow, picture, "JPEG", quality=_QUALITY, optimize=True)
        yield from _against(f"JPEG, {name}", jpeg, _jpeg(picture))


def _against(what: str, default: Encoder, candidates: dict[str, Encoder]) -> Iterator[Row]:
    whole = len(default())
    for name, candidate in candidates.items():
        took, reference = fastest(candidate, default, rounds=3)
        note = f"{took:.1f} ms of {reference:.1f} ms"
        yield row(f"{what}, {name}: time", took / reference, "x Pillow", note=note)
        yield row(f"{what}, {name}: size", len(candidate()) / whole, "x Pillow")


def _png(picture: Picture) -> dict[str, Encoder]:
    levels: dict[str, Encoder] = {
        f"Pillow level {level}": partial(by_pillow, picture, "PNG", compress_level=level) for level in (1, 3)
    }
    ways = {
        "level 1": (0, _ALL_FILTERS),
        "runs, all filters": (3, _ALL_FILTERS),
        "runs, Paeth": (3, cv2.IMWRITE_PNG_FILTER_PAETH),
    }
    opencv = {f"OpenCV {name}": partial(_by_opencv, picture, ".png", _options(*way)) for name, way in ways.items()}
    return {"ours": partial(encode, picture, "png", 0), **levels, **opencv}


def _options(strategy: int, filters: int) -> list[int]:
    return [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, strategy, cv2.IMWRITE_PNG_FILTER, filters]


def _jpeg(picture: Picture) -> dict[str, Encoder]:
    plain = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    return {
        "OpenCV, own tables": partial(_by_opencv, picture, ".jpg", [*plain, cv2.IMWRITE_JPEG_OPTIMIZE, 1]),
        "OpenCV, standard tables": partial(_by_opencv, picture, ".jpg", plain),
        "Pillow, standard tables": partial(by_pillow, picture, "JPEG", quality=_QUALITY),
    }


def _by_opencv(picture: Picture, kind: str, options: list[int]) -> bytes:
    return bytes(cv2.imencode(kind, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)[1])


def _deflate(picture: Picture) -> dict[str, Encoder]:
    """Compressors at work on the rows after the Paeth filter; filtering itself, 3 ms, is not in their times."""
    encoded = encode(picture, "png", 0)
    start = encoded.index(b"IDAT")
    length = int.from_bytes(encoded[start - 4 : start], "big")
    filtered = zlib.decompress(encoded[start + 4 : start + 4 + length])
    return _compressors(filtered)


def _compressors(data: bytes) -> dict[str, Encoder]:
    found: dict[str, Encoder] = {"zlib runs": partial(_zlib_runs, data), "zlib-ng runs": partial(_zlib_ng_runs, data)}
    found |= {f"zlib-ng level {level}": partial(zlib_ng.compress, data, level) for level in (1, 2, 3)}
    if find_spec("deflate"):
        compress = import_module("deflate").zlib_compress
        found |= {f"libdeflate level {level}": partial(compress, data, level) for level in (1, 3)}
    if find_spec("isal"):
        compress = import_module("isal.isal_zlib").compress
        found |= {f"ISA-L level {level}": partial(compress, data, level) for level in (1, 3)}
    return found


def _zlib_runs(data: bytes) -> bytes:
    stream = zlib.compressobj(1, strategy=zlib.Z_RLE)
    return stream.compress(data) + stream.flush()


def _zlib_ng_runs(data: bytes) -> bytes:
    stream = zlib_ng.compressobj(1, strategy=zlib_ng.Z_RLE)
    return stream.compress(data) + stream.flush()


if __name__ == "__main__":
    with Report("encoding candidates") as report:
        for measured in rows():
            report.put(measured)
