"""JPEG files of markers in unusual places."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from skimage import data

from models.errors import UnreadableImage
from models.imaging import jpeg

FILL = b"\xff"


@pytest.fixture(scope="module")
def photo() -> bytes:
    out = io.BytesIO()
    Image.fromarray(data.astronaut()).save(out, "JPEG", quality=95, restart_marker_rows=1)
    return out.getvalue()


def test_a_plain_file_is_kept_to_its_end(photo: bytes) -> None:
    assert jpeg.parse(photo).stream == photo
    assert jpeg.parse(photo + b"what follows").stream == photo


@pytest.mark.parametrize("count", [1, 7, 2_000_000])
@pytest.mark.parametrize("place", ["before the scan", "in front of the end", "instead of the end"])
def test_fill_bytes_are_no_part_of_the_picture_however_many(photo: bytes, place: str, count: int) -> None:
    """Any number may stand before a marker (T.81, B.1.1.2); the time to pass over them grows with it, no faster."""
    whole, end = photo[:-2], photo[-2:]
    scan = photo.index(b"\xff\xda")
    stream = {
        "before the scan": photo[:scan] + FILL * count + photo[scan:],
        "in front of the end": whole + FILL * count + end,
        "instead of the end": whole + FILL * count,
    }[place]
    expected = whole + FILL * count if place == "instead of the end" else photo
    assert jpeg.parse(stream).stream == expected


@pytest.mark.parametrize("cut", range(-jpeg._STEP - 3, -jpeg._STEP + 3))
def test_a_marker_is_found_where_a_searched_part_ends(cut: int) -> None:
    """The scan's data are as long as to put the end marker around the border of two parts."""
    head = b"\xff\xd8\xff\xda\x00\x02"
    scan = bytes(-cut)
    assert jpeg.parse(head + scan + b"\xff\xd9" + bytes(jpeg._STEP)).stream == head + scan + b"\xff\xd9"


@pytest.mark.parametrize("marker", [b"\xff\xd0", b"\xff\xe5\x00\x02"], ids=["restarts", "empty segments"])
def test_more_markers_than_any_encoder_writes_are_refused(photo: bytes, marker: bytes) -> None:
    scan = photo.index(b"\xff\xda")
    few, many = (photo[:scan] + marker * count + photo[scan:] for count in (5_000, 5_000_000))
    assert jpeg.parse(few).stream == photo
    with pytest.raises(UnreadableImage, match="more than 10000 markers"):
        jpeg.parse(many)
