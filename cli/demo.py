"""`facelight demo`: sample requests to a running server, sent with the public client library.

One portrait, and one subject under seven lights; a contact sheet shows the latter beside the photo that was sent.
"""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from PIL import Image
from segmind import SegmindClient, SegmindError

from cli.contact_sheet import Cell, contact_sheet
from cli.sample_photo import sample_photo

PHOTO: Final = "astronaut.png"
SUBJECT: Final = "astronaut"
"""What the photo shows, as a prompt names it."""
SHEET: Final = "contact-sheet.png"
_RELIT: Final = "ic-light"
_TIMEOUT_S: Final = 60.0
_KINDS: Final = {
    "demo": "demo weights: small stand-ins, for demonstration only",
    "real": "real weights",
    "mixed": "demo and real weights",
}


class DemoError(Exception):
    """The server could not be reached or answered with an error; `str()` is a message for the operator."""


@dataclass(frozen=True)
class Sample:
    """One request. `name` is the stem of the image's file, `title` its caption on the contact sheet."""

    name: str
    slug: str
    image_field: str
    photo: str
    params: dict[str, Any]
    title: str = ""


def _relighting(name: str, title: str, light: str, light_source: str) -> Sample:
    params = {"prompt": f"{SUBJECT}, {light}", "light_source": light_source, "seed": 42}
    return Sample(f"{_RELIT}-{name}", _RELIT, "subject_image", PHOTO, params, title)


SAMPLES: Final = (
    Sample(
        "pulid-lightning",
        "pulid-lightning",
        "face_image",
        PHOTO,
        {"prompt": "portrait of a woman, oil painting", "seed": 412431},
    ),
    _relighting("left", "Left Light", "soft light", "Left Light"),
    _relighting("right", "Right Light", "soft light", "Right Light"),
    _relighting("none", "No light source", "soft light", "None"),
    _relighting("top", "Top Light", "soft light", "Top Light"),
    _relighting("bottom", "Bottom Light", "soft light", "Bottom Light"),
    _relighting("neon", "Prompt: neon", "neon city light", "None"),
    _relighting("sunset", "Prompt: sunset", "warm sunset light", "None"),
)
"""In the order of the sheet."""


def run(url: str, api_key: str | None, out: Path, samples: Sequence[Sample] = SAMPLES) -> Iterator[str]:
    """Send every sample to the server at `url` and save images and sheet in `out`; yields a line of text per file.

    Raises `DemoError`.
    """
    out.mkdir(parents=True, exist_ok=True)
    client = SegmindClient(api_key=api_key, base_url=f"{url}/v1", timeout=_TIMEOUT_S)
    cells = [Cell(Image.open(sample_photo(PHOTO)), "Input", "the photo sent")]
    try:
        for sample in samples:
            path, seconds = _generate(client, sample, out)
            yield f"{sample.slug}: {path} in {seconds:.1f} s"
            if sample.slug == _RELIT:
                cells.append(Cell(Image.open(path), sample.title, sample.params["prompt"]))
        kind = _kind_of_weights(url)
    except SegmindError as error:
        raise DemoError(f"{url} refused: {error.detail or error.status}") from error
    except httpx.HTTPError as error:
        raise DemoError(f"{url} does not answer ({error}); is `make run` running?") from error
    contact_sheet(heading(kind), cells).save(out / SHEET)
    yield f"all of {_RELIT} side by side: {out / SHEET}"


def data_uri(picture: Path) -> str:
    """An image file as a data URI."""
    media_type, _ = mimetypes.guess_type(picture)
    return f"data:{media_type};base64,{base64.b64encode(picture.read_bytes()).decode()}"


def _generate(client: SegmindClient, sample: Sample, out: Path) -> tuple[Path, float]:
    """Send one request and save its image; returns the path and the inference time in seconds."""
    photo = {sample.image_field: data_uri(sample_photo(sample.photo))}
    result = client.run(sample.slug, **photo, **sample.params)
    path = out / f"{sample.name}{Path(result['output']).suffix}"
    path.write_bytes(httpx.get(result["output"], timeout=_TIMEOUT_S).raise_for_status().content)
    return path, result["metrics"]["inference_time"]


def heading(kind: str | None) -> str:
    """Heading of the sheet: the model, and the kind of its weights if the server reports it."""
    return f"{_RELIT}, {_KINDS[kind] if kind else 'weights unknown'}"


def _kind_of_weights(url: str) -> str | None:
    response = httpx.get(f"{url}/health/ready", timeout=_TIMEOUT_S)
    return response.json()["models"][_RELIT]["weights"] if response.is_success else None
