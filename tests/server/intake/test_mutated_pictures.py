"""Damaged pictures of all formats, through the HTTP door: refused, or read by the worker as the check read them."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from models.errors import UnreadableImage
from models.ic_light.conditioning import to_rgb
from models.imaging.decode import decode
from server.settings import GatewaySettings
from tests.models.imaging.files import display_p3, odd_exif, saved
from tests.server.intake.echo import EchoServer, echo_worker
from tests.server.intake.test_picture_files import avif, heif
from tests.server.support import Client
from workers.engine.stages import RequestStages

PHOTO = Image.fromarray(astronaut()[:96, 180:300])
EXIF = odd_exif("negative rationals")
FORMATS: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: saved(PHOTO, "JPEG", progressive=True, exif=b"Exif\0\0" + EXIF, icc_profile=display_p3()),
    "PNG": lambda: saved(PHOTO.quantize(64), "PNG", exif=EXIF, icc_profile=display_p3(), transparency=3, dpi=(72, 72)),
    "WEBP": lambda: saved(PHOTO, "WEBP", exif=EXIF, icc_profile=display_p3()),
    "HEIC": lambda: heif(PHOTO, icc_profile=display_p3()),
    "AVIF": lambda: avif(PHOTO, icc_profile=display_p3()),
}


@pytest.fixture(scope="module")
def stages(shared_settings: GatewaySettings) -> Iterator[RequestStages]:
    with echo_worker(shared_settings) as stages:
        yield stages


def mutated(data: bytes, form: str, chance: random.Random) -> bytes:
    """A file with bytes changed, its end cut off, or two of its parts swapped."""
    kind = chance.choice(("bytes", "bytes", "cut", "swap"))
    changed = bytearray(data)
    if kind == "bytes":
        for _ in range(chance.choice((1, 2, 8))):
            # Half of them in the first fifth, where the structure is.
            changed[chance.randrange(len(data) // chance.choice((1, 5)))] = chance.randrange(256)
        return bytes(changed)
    if kind == "cut":
        return data[: chance.randrange(12, len(data))]
    parts = _parts(data, form)
    one, other = sorted(chance.sample(range(1, len(parts)), 2))
    parts[one], parts[other] = parts[other], parts[one]
    return b"".join(parts)


def _parts(data: bytes, form: str) -> list[bytes]:
    """Signature, chunks (PNG, WebP), boxes (HEIC, AVIF) or segments (JPEG) of a whole file, and the rest."""
    at, parts = {"JPEG": 2, "PNG": 8, "WEBP": 12}.get(form, 0), []
    parts.append(data[:at])
    while at + 8 <= len(data):
        match form:
            case "PNG":
                size = struct.unpack_from(">I", data, at)[0] + 12
            case "WEBP":
                length = struct.unpack_from("<I", data, at + 4)[0]
                size = 8 + length + length % 2
            case "JPEG":
                size = len(data) - at if data[at + 1] == 0xDA else 2 + struct.unpack_from(">H", data, at + 2)[0]
            case _:
                size = struct.unpack_from(">I", data, at)[0] or len(data) - at
        parts.append(data[at : at + size])
        at += size
    return [*parts, data[at:]]


@pytest.mark.parametrize(
    "rounds", [range(8), pytest.param(range(8, 48), marks=pytest.mark.slow)], ids=["40 pictures", "200 pictures"]
)
def test_damaged_pictures_are_refused_or_read_alike(client: Client, stages: RequestStages, rounds: range) -> None:
    echo = EchoServer(client, stages)
    accepted: dict[str, bytes] = {}
    refused = 0
    for form, make in FORMATS.items():
        whole = make()
        for number in rounds:
            data = mutated(whole, form, random.Random(f"{form} {number}"))
            answer = echo.submit(data)
            if answer.status_code == 200:
                accepted[answer.json()["request_id"]] = data
            else:
                assert answer.status_code == 400, answer.text
                assert answer.json()["error"].startswith("subject_image: ")
                with pytest.raises(UnreadableImage):
                    decode(data)
                refused += 1
    echo.serve()
    for request_id, data in accepted.items():
        seen = echo.result(request_id)
        assert not isinstance(seen, str), seen
        assert np.array_equal(seen, to_rgb(decode(data)))
    assert len(accepted) + refused == len(rounds) * len(FORMATS)
    assert accepted and refused
