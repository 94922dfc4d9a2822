"""Portraits through a live server: what counts, what repeats, and what photos of every kind end as."""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image
from skimage import data

from tests.contract.pictures import distance, images_of, pixels, post, size
from tests.live_server import LiveServer, png

ASTRONAUT = data.astronaut()
USUAL = {"seed": 412431, "width": 256, "height": 256, "output_format": "png"}
BACKDROP = (90, 120, 90)


@pytest.fixture(scope="module")
def ask(live: LiveServer) -> Callable[..., httpx.Response]:
    """Send the usual request, with another photo or other parameters."""

    def send(photo: bytes = png(ASTRONAUT), **changes: object) -> httpx.Response:
        return post(live, "pulid-lightning", {"face_image": photo}, **USUAL | changes)

    return send


@pytest.fixture(scope="module")
def usual(ask: Callable[..., httpx.Response]) -> bytes:
    (picture,) = images_of(ask())
    return picture


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def group(*others: tuple[int, int]) -> np.ndarray:
    """A large face in the middle of the left half, and a small one at each of the places (x, y) in px."""
    canvas = np.full((768, 1200, 3), BACKDROP, np.uint8)
    canvas[100:612, 40:552] = ASTRONAUT
    small = cv2.resize(ASTRONAUT[:, ::-1], (256, 256), interpolation=cv2.INTER_AREA)
    for x, y in others:
        canvas[y : y + 256, x : x + 256] = small
    return canvas


def test_a_repeated_request_gives_the_same_bytes(ask, usual: bytes):
    assert images_of(ask()) == [usual]
    assert size(usual) == (256, 256)


@pytest.mark.parametrize(
    "change",
    [
        {"photo": png(ASTRONAUT[:, ::-1])},
        {"face_style": "stylized"},
        {"checkpoint_model": "artistic"},
        {"checkpoint_model": "realistic"},
        {"seed": 412432},
        {"prompt": "a statue of marble"},
    ],
    ids=["photo", "face_style", "artistic", "realistic", "seed", "prompt"],
)
def test_every_parameter_changes_the_image(ask, usual: bytes, change: dict):
    (other,) = images_of(ask(**change))
    assert size(other) == size(usual)
    assert distance(other, usual) > 0.3


def test_the_first_of_four_pictures_is_the_single_one(ask, usual: bytes):
    pictures = images_of(ask(number_of_images=4))
    assert len(pictures) == 4
    assert np.abs(pixels(pictures[0]) - pixels(usual)).max() <= 2
    assert all(distance(pictures[0], other) > 5 for other in pictures[1:])


@pytest.mark.slow
def test_the_largest_of_three_faces_is_used(ask):
    (of_three,) = images_of(ask(png(group((640, 60), (900, 420)))))
    assert [of_three] == images_of(ask(png(group())))
    assert distance(of_three, images_of(ask(png(group()[:, ::-1])))[0]) > 0.3


@pytest.mark.slow
def test_the_exif_orientation_is_applied(ask, usual: bytes):
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways = Image.fromarray(np.rot90(ASTRONAUT))
    assert images_of(ask(saved(sideways, "PNG", exif=exif))) == [usual]
    (from_jpeg,) = images_of(ask(saved(sideways, "JPEG", exif=exif, quality=95)))
    assert size(from_jpeg) == (256, 256)


def test_transparency_is_ignored(ask, usual: bytes):
    alpha = np.full((512, 512, 1), 255, np.uint8)
    alpha[:, 300:] = 0
    assert images_of(ask(png(np.concatenate((ASTRONAUT, alpha), 2)))) == [usual]


@pytest.mark.slow
def test_sixteen_bits_give_the_same_image_as_eight(ask, usual: bytes):
    sixteen = ASTRONAUT[:, :, ::-1].astype(np.uint16) * 257
    assert images_of(ask(cv2.imencode(".png", sixteen)[1].tobytes())) == [usual]
    grey = np.asarray(Image.fromarray(ASTRONAUT).convert("L"))
    wide_grey = cv2.imencode(".png", grey.astype(np.uint16) * 257)[1].tobytes()
    assert images_of(ask(wide_grey)) == images_of(ask(saved(Image.fromarray(grey), "PNG")))


@pytest.mark.parametrize(
    "photo",
    [
        pytest.param(png(np.full((256, 256, 3), 127, np.uint8)), marks=pytest.mark.slow),
        png(data.rocket()),
        png(np.resize(ASTRONAUT, (32, 321 * 32, 3))),
        png(np.resize(ASTRONAUT, (650 * 33, 33, 3))),
    ],
    ids=["flat", "landscape", "wide strip", "tall strip"],
)
def test_a_photo_without_a_face_is_422_with_a_message(ask, photo: bytes):
    response = ask(photo)
    assert response.status_code == 422
    assert response.json()["status"] == "FAILED"
    assert response.json()["error"] == "No face was found in face_image."


def test_a_truncated_photo_is_400_with_a_message(ask):
    response = ask(saved(Image.fromarray(ASTRONAUT), "JPEG")[:9000])
    assert response.status_code == 400
    assert response.json()["error"] == "face_image: The image file is damaged or cut short."
