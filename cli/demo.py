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

FACE: Final = "astronaut.png"
SUBJECT: Final = "astronaut.png"
"""The photo that is relit."""
SHOWS: Final = "astronaut"
"""What it shows, in a prompt's words."""
SHEET: Final = "contact-sheet.png"
_RELIT: Final = "ic-light"
_TIMEOUT_S: Final = 60.0
_KINDS: Final = {
    "demo": "demo weights: small stand-ins, for demonstration only",
    "real": "real weights",
    "mixed": "demo and real weights",
}


class DemoFailed(Exception):
    """The server could not be reached, or refused; `str()` says why."""


@dataclass(frozen=True)
class Sample:
    """One request: where to send it, which photo, what it asks for.

    `name` is the file's without its ending; `title` stands under the picture if it comes onto the sheet.
    """

    name: str
    slug: str
    image_field: str
    photo: str
    params: dict[str, Any]
    title: str = ""


def _relighting(name: str, title: str, light: str, light_source: str) -> Sample:
    params = {"prompt": f"{SHOWS}, {light}", "light_source": light_source, "seed": 42}
    return Sample(f"{_RELIT}-{name}", _RELIT, "subject_image", SUBJECT, params, title)


SAMPLES: Final = (
    Sample(
        "pulid-lightning",
        "pulid-lightning",
        "face_image",
        FACE,
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
"""What is sent, in the order of the sheet."""


def run(url: str, api_key: str | None, out: Path, samples: Sequence[Sample] = SAMPLES) -> Iterator[str]:
    """Send every sample to the server at `url`, save the pictures and the sheet in `out`; yields a line per file.

    Raises `DemoFailed`.
    """
    out.mkdir(parents=True, exist_ok=True)
    client = SegmindClient(api_key=api_key, base_url=f"{url}/v1", timeout=_TIMEOUT_S)
    cells = [Cell(Image.open(sample_photo(SUBJECT)), "Input", "the photo sent")]
    try:
        for sample in samples:
            path, seconds = _draw(client, sample, out)
            yield f"{sample.slug}: {path} in {seconds:.1f} s"
            if sample.slug == _RELIT:
                cells.append(Cell(Image.open(path), sample.title, sample.params["prompt"]))
        kind = _kind_of_weights(url)
    except SegmindError as error:
        raise DemoFailed(f"{url} refused: {error.detail or error.status}") from error
    except httpx.HTTPError as error:
        raise DemoFailed(f"{url} does not answer ({error}); is `make run` running?") from error
    contact_sheet(heading(kind), cells).save(out / SHEET)
    yield f"all of {_RELIT} side by side: {out / SHEET}"


def data_uri(picture: Path) -> str:
    """A picture's file as a data URI."""
    media_type, _ = mimetypes.guess_type(picture)
    return f"data:{media_type};base64,{base64.b64encode(picture.read_bytes()).decode()}"


def _draw(client: SegmindClient, sample: Sample, out: Path) -> tuple[Path, float]:
    """Send one request and save its picture: the file, and the seconds that the server computed."""
    photo = {sample.image_field: data_uri(sample_photo(sample.photo))}
    result = client.run(sample.slug, **photo, **sample.params)
    path = out / f"{sample.name}{Path(result['output']).suffix}"
    path.write_bytes(httpx.get(result["output"], timeout=_TIMEOUT_S).raise_for_status().content)
    return path, result["metrics"]["inference_time"]


def heading(kind: str | None) -> str:
    """The sheet's first line: the model, and the kind of weights that it runs on; None if the server does not tell."""
    return f"{_RELIT}, {_KINDS[kind] if kind else 'weights unknown'}"


def _kind_of_weights(url: str) -> str | None:
    answer = httpx.get(f"{url}/health/ready", timeout=_TIMEOUT_S)
    return answer.json()["models"][_RELIT]["weights"] if answer.is_success else None
