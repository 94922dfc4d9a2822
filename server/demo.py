"""`facelight demo`: one request per endpoint to a running server, sent with the public client library."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from segmind import SegmindClient, SegmindError

from server.sample_photo import sample_photo


class DemoFailed(Exception):
    """The server could not be reached, or refused; `str()` says why."""


@dataclass(frozen=True)
class Sample:
    """One request: where to send it and what it asks for. The photo is one that scikit-image brings along."""

    slug: str
    image_field: str
    params: dict[str, Any]


SAMPLES: Final = (
    Sample("pulid-lightning", "face_image", {"prompt": "portrait of a woman, oil painting", "seed": 412431}),
    Sample("ic-light", "subject_image", {"prompt": "astronaut, warm light", "light_source": "Left Light", "seed": 42}),
)


def run(url: str, api_key: str | None, out: Path) -> Iterator[str]:
    """Send every sample to the server at `url`, save the pictures in `out`; yields a line of text per picture.

    Raises `DemoFailed`.
    """
    out.mkdir(parents=True, exist_ok=True)
    client = SegmindClient(api_key=api_key, base_url=f"{url}/v1", timeout=60)
    photo = data_uri(sample_photo())
    try:
        for sample in SAMPLES:
            result = client.run(sample.slug, **{sample.image_field: photo}, **sample.params)
            path = out / f"{sample.slug}{Path(result['output']).suffix}"
            path.write_bytes(httpx.get(result["output"], timeout=60).raise_for_status().content)
            yield f"{sample.slug}: {path} in {result['metrics']['inference_time']:.1f} s"
    except SegmindError as error:
        raise DemoFailed(f"{url} refused: {error.detail or error.status}") from error
    except httpx.HTTPError as error:
        raise DemoFailed(f"{url} does not answer ({error}); is `make run` running?") from error


def data_uri(picture: Path) -> str:
    """A PNG file as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
