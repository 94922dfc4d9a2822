"""A worker whose model gives back the picture that it was sent, as both real models see it: no noise, no network."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.catalog import MODELS
from models.ic_light.conditioning import to_rgb
from models.imaging.decode import decode, to_pixels
from models.pipeline import OnStep, Pipeline, Pixels
from server.settings import GatewaySettings
from tests.server.support import Client, image_field
from tests.workers.support import stages
from workers.engine.stages import RequestStages
from workers.state.connection import connect
from workers.state.records import Records
from workers.store.open import open_store

Seen = NDArray[np.uint8]
READERS = {"ic-light": to_rgb, "pulid-lightning": to_pixels}


class EchoPipeline(Pipeline[Any, Seen]):
    """Decodes the picture of a request, and that is its result."""

    variants: tuple[str, ...] = ()

    def __init__(self, slug: str) -> None:
        self.variants = MODELS[slug].params.variants
        self._slug = slug

    def prepare(self, params: Any, images: Mapping[str, bytes]) -> Seen:
        """Read the file as the model of that name does."""
        return READERS[self._slug](decode(images[image_field(self._slug)]))

    def batch_key(self, prepared: Seen) -> tuple[int, ...]:
        """Pictures of one size."""
        return prepared.shape

    def run(self, batch: Sequence[Seen], on_step: OnStep) -> list[Pixels]:
        """Nothing is left to do."""
        return [prepared[None] for prepared in batch]


class EchoServer:
    """A gateway and such a worker's stages, which serve when they are told to."""

    def __init__(self, client: Client, stages: RequestStages) -> None:
        self.client = client
        self._stages = stages

    def submit(self, data: bytes, slug: str = "ic-light") -> httpx.Response:
        """Queue a picture."""
        form = {"prompt": "p", "output_format": "png"}
        return self.client.post(f"/v2/{slug}", data=form, files={image_field(slug): ("photo", data)})

    def serve(self) -> None:
        """Serve all that waits."""
        for slug, model in MODELS.items():
            for _ in self._stages.serve((slug, model.params.variants[0]), b""):
                pass
        self._stages.publish.wait_for_pending()

    def result(self, request_id: str) -> Seen | str:
        """The pixels [height, width, 3] of a result, or the error of what failed."""
        answer = self.client.get(f"/v2/requests/{request_id}").json()
        if answer["status"] != "COMPLETED":
            return str(answer.get("error") or answer["status"])
        return np.asarray(Image.open(io.BytesIO(self.client.get(answer["output"]).content)))

    def see(self, data: bytes, slug: str = "ic-light") -> Seen:
        """What the model sees of a picture that must be accepted."""
        accepted = self.submit(data, slug)
        assert accepted.status_code == 200, accepted.text
        self.serve()
        seen = self.result(accepted.json()["request_id"])
        assert not isinstance(seen, str), seen
        return seen


@contextmanager
def echo_worker(settings: GatewaySettings) -> Iterator[RequestStages]:
    """The stages of a worker of both models, for as long as the block lasts."""
    records = Records(connect(settings.redis_url), settings.result_ttl_s, settings.request_ttl_s)
    pipelines = {slug: EchoPipeline(slug) for slug in MODELS}
    with stages(records, open_store(settings.store_location), pipelines) as (engine, _):
        yield engine
