"""The contact sheet: every picture in its place, whatever its shape, with its words below."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cli.contact_sheet import CAPTION, CELL, COLUMNS, GAP, HEADING, Cell, contact_sheet

COLOURS = ["red", "lime", "blue", "yellow", "cyan", "magenta", "gray", "black"]


def plain(colour: str, size: tuple[int, int] = (64, 80)) -> Image.Image:
    return Image.new("RGB", size, colour)


def place(number: int) -> tuple[int, int]:
    """(left, top) of a cell in px."""
    row, column = divmod(number, COLUMNS)
    return GAP + column * (CELL[0] + GAP), HEADING + GAP + row * (CELL[1] + CAPTION + GAP)


def below(sheet: Image.Image, number: int) -> np.ndarray:
    """What stands under a cell, as wide as the cell with its gap."""
    left, top = place(number)
    return np.asarray(sheet.crop((left, top + CELL[1], left + CELL[0] + GAP, top + CELL[1] + CAPTION)).convert("L"))


def test_pictures_stand_in_rows_in_their_order():
    sheet = contact_sheet("heading", [Cell(plain(colour), colour) for colour in COLOURS])
    assert sheet.size == (GAP + 4 * (CELL[0] + GAP), HEADING + GAP + 2 * (CELL[1] + CAPTION + GAP))
    for number, colour in enumerate(COLOURS):
        left, top = place(number)
        cut = sheet.crop((left, top, left + CELL[0], top + CELL[1]))
        assert cut.getcolors() == [(CELL[0] * CELL[1], plain(colour).getpixel((0, 0)))]


def test_a_row_that_is_not_full_has_its_height():
    assert (
        contact_sheet("", [Cell(plain("red"), "")] * 5).height == contact_sheet("", [Cell(plain("red"), "")] * 8).height
    )


@pytest.mark.parametrize("size", [(300, 80), (80, 300)])
def test_pictures_of_another_shape_are_cut_at_their_centre(size: tuple[int, int]):
    picture = plain("red", size)
    middle = Image.new("RGB", (60, 60), "blue")
    picture.paste(middle, ((size[0] - 60) // 2, (size[1] - 60) // 2))
    left, top = place(0)
    sheet = contact_sheet("", [Cell(picture, "")])
    assert sheet.getpixel((left + CELL[0] // 2, top + CELL[1] // 2)) == (0, 0, 255)
    assert sheet.crop((left, top, left + CELL[0], top + CELL[1])).getpixel((0, 0)) == (255, 0, 0)


def test_grey_and_transparent_pictures_are_taken():
    sheet = contact_sheet("", [Cell(Image.new("L", (64, 80), 90), ""), Cell(Image.new("RGBA", (64, 80), "red"), "")])
    assert sheet.getpixel(place(0)) == (90, 90, 90)
    assert sheet.getpixel(place(1)) == (255, 0, 0)


def test_heading_title_and_note_are_written():
    blank = contact_sheet("", [Cell(plain("red"), "")] * 2)
    sheet = contact_sheet(
        "ic-light", [Cell(plain("red"), "Left Light"), Cell(plain("red"), "Left Light", "soft light")]
    )
    assert np.asarray(blank.crop((0, 0, blank.width, HEADING))).min() == 255
    assert np.asarray(sheet.crop((0, 0, sheet.width, HEADING))).min() < 100
    assert below(blank, 0).min() == 255
    assert below(sheet, 0).min() < 100
    assert (below(sheet, 1) < 200).sum() > 1.3 * (below(sheet, 0) < 200).sum(), "a note adds its letters"


def test_long_words_end_where_the_picture_ends():
    sheet = contact_sheet("", [Cell(plain("red"), "word " * 40, "word " * 40)])
    words = below(sheet, 0)
    assert words[:, : CELL[0]].min() < 100
    assert words[:, CELL[0] + 1 :].min() == 255
