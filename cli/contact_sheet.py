"""A contact sheet: images side by side with a caption under each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageDraw, ImageFont, ImageOps

COLUMNS: Final = 4
CELL: Final = (320, 400)
"""(width, height) of a picture on the sheet, in px: the shape of ic-light's default output."""
GAP: Final = 20
CAPTION: Final = 56
"""Height of the two lines under a picture, in px."""
HEADING: Final = 48
_PAPER: Final = "white"
_INK: Final = "#1b1b1b"
_PALE: Final = "#6a6a6a"
_HEADING_SIZE: Final = 30
_TITLE_SIZE: Final = 20
_NOTE_SIZE: Final = 15


@dataclass(frozen=True)
class Cell:
    """One picture with a title and a note under it, each of one line."""

    picture: Image.Image
    title: str
    note: str = ""


def contact_sheet(heading: str, cells: Sequence[Cell]) -> Image.Image:
    """Lay the cells out in rows of `COLUMNS`, line by line; RGB.

    Pictures are scaled to cover `CELL` and cut at their centre, as ic-light cuts the photo it is sent.
    """
    rows = -(-len(cells) // COLUMNS)
    sheet = Image.new("RGB", (_left(COLUMNS), _top(rows)), _PAPER)
    ink = ImageDraw.Draw(sheet)
    ink.text((GAP, GAP), heading, _INK, _font(_HEADING_SIZE))
    for number, cell in enumerate(cells):
        row, column = divmod(number, COLUMNS)
        _place(sheet, ink, cell, _left(column), _top(row))
    return sheet


def _left(column: int) -> int:
    return GAP + column * (CELL[0] + GAP)


def _top(row: int) -> int:
    return HEADING + GAP + row * (CELL[1] + CAPTION + GAP)


def _place(sheet: Image.Image, ink: ImageDraw.ImageDraw, cell: Cell, left: int, top: int) -> None:
    sheet.paste(ImageOps.fit(cell.picture.convert("RGB"), CELL, Image.Resampling.LANCZOS), (left, top))
    below = top + CELL[1] + 8
    for text, size, colour in ((cell.title, _TITLE_SIZE, _INK), (cell.note, _NOTE_SIZE, _PALE)):
        font = _font(size)
        ink.text((left, below), _shortened(text, font), colour, font)
        below += size + 7


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text as far as it fits under a picture."""
    if font.getlength(text) <= CELL[0]:
        return text
    while font.getlength(f"{text}...") > CELL[0]:
        text = text[:-1]
    return f"{text}..."


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
