"""Results that are not finite numbers, through the gateway and a worker's stages, with real pipelines and demo weights.

Conversion to 8 bits would turn them into black or white pictures that look like results.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from redis import Redis
from skimage import data
from torch import Tensor

from models.catalog import MODELS
from models.ic_light.pipeline import IcLight
from models.pulid_lightning.pipeline import PulidLightning
from models.weights.installed import WeightSet
from server.settings import GatewaySettings
from tests.live_server import png
from tests.server.support import Client, serving
from tests.workers.support import stages
from workers.logs import add_request_id
from workers.state.records import Records
from workers.store.open import open_store

CAUSES = ("not finite", "(word:1e30)", "damaged weight", "half precision")
SMALL = {
    "pulid-lightning": {"width": 256, "height": 256},
    "ic-light": {"width": 256, "height": 256, "steps": 1, "highres_scale": 1},
}
PLACES = {"pulid-lightning": ("pulid-lightning", "default"), "ic-light": ("ic-light", "foreground")}
PHOTO = "data:image/png;base64," + base64.b64encode(png(data.astronaut())).decode()


@pytest.fixture(scope="module")
def pipelines(demo_weights: Path) -> dict[str, Any]:
    options = {"checkpoints": ("default",)}  # of pulid-lightning; ignored by the other
    return {
        slug: MODELS[slug].load(
            WeightSet.open(demo_weights, slug), torch.device("cpu"), MODELS[slug].options.model_validate(options)
        )
        for slug in SMALL
    }


class Served:
    """A gateway, and a worker that works when it is told to."""

    def __init__(self, client: Client, settings: GatewaySettings, pipelines: dict[str, Any]) -> None:
        self.client, self.pipelines, self.store = client, pipelines, open_store(settings.store_location)
        self.records = Records(Redis.from_url(settings.redis_url), settings.result_ttl_s, settings.request_ttl_s)

    def submit(self, slug: str, **fields: Any) -> str:
        photo = MODELS[slug].params.image_fields[0]
        answer = self.client.post(f"/v2/{slug}", json={photo: PHOTO, "prompt": "a man", **SMALL[slug], **fields})
        assert answer.status_code == 200, answer.text
        request_id: str = answer.json()["request_id"]
        return request_id

    def work(self, slug: str) -> list[int]:
        """Draw who is next, and whoever is taken with it or while it is drawn; returns the sizes of the runs."""
        pipeline, sizes = self.pipelines[slug], list[int]()
        run = pipeline.run
        pipeline.run = lambda batch, on_step: sizes.append(len(batch)) or run(batch, on_step)
        try:
            with stages(self.records, self.store, {slug: pipeline}) as (engine, _):
                for _ in engine.serve(PLACES[slug], b"wakeup"):
                    engine.stop_claiming()
        finally:
            del pipeline.run
        return sizes

    def ending(self, request_id: str) -> tuple[int, str, str]:
        """Code, status and error of a request's result."""
        answer = self.client.get(f"/v2/requests/{request_id}")
        return answer.status_code, answer.json()["status"], answer.json().get("error", "")


@pytest.fixture
def served(redis_url: str, tmp_path: Path, pipelines: dict[str, Any]) -> Iterator[Served]:
    settings = GatewaySettings(redis_url=redis_url, data_dir=tmp_path, janitor_interval_s=86_400)
    with serving(settings) as client:
        yield Served(client, settings, pipelines)


@contextmanager
def damaged(weight: Tensor, rows: Any = ..., value: float = torch.nan) -> Iterator[None]:
    """Weights that hold what they should not."""
    with torch.inference_mode():
        sound = weight.clone()
        weight[rows] = value
        try:
            yield
        finally:
            weight.copy_(sound)


def weight_of(pipeline: Any, part: str) -> Tensor:
    """A weight on which all that a part computes depends."""
    if isinstance(pipeline, IcLight):
        networks = pipeline._networks
        if part == "matting":
            return networks.matting.network.conv_in.bias
        unet, vae = networks.unet, networks.vae
    else:
        assert isinstance(pipeline, PulidLightning)
        if part == "parser":
            return pipeline._conditions._extractor._parser.conv_out.conv_out.weight
        checkpoint = pipeline._checkpoints.activate("default")
        unet, vae = checkpoint.unet, checkpoint.vae
    return {"unet": unet, "vae": vae.decoder}[part].conv_out.bias


def embeddings_of(pipeline: Any) -> Tensor:
    """A text encoder's embeddings of tokens [vocabulary, width]."""
    if isinstance(pipeline, IcLight):
        encoder = pipeline._networks.text_encoder
    else:
        encoder = pipeline._checkpoints.activate("default").clip_l
    return encoder.get_input_embeddings().weight


def tokens_of(pipeline: Any, text: str) -> set[int]:
    tokenizer = pipeline._networks.tokenizer if isinstance(pipeline, IcLight) else pipeline._tokenizers[0]
    return set(tokenizer.encode(text, add_special_tokens=False))


@pytest.mark.parametrize(
    ("slug", "part", "value", "seen"),
    [
        pytest.param("pulid-lightning", "vae", torch.nan, "the decoded picture", marks=pytest.mark.slow),
        pytest.param("pulid-lightning", "parser", torch.nan, "the latents", marks=pytest.mark.slow),
        pytest.param("ic-light", "unet", -torch.inf, "the latents of the first pass", marks=pytest.mark.slow),
        pytest.param("ic-light", "vae", torch.inf, "the decoded picture of the first pass", marks=pytest.mark.slow),
        ("ic-light", "matting", torch.nan, "the subject's alpha"),
    ],
)
def test_a_damaged_weight_fails_the_request_with_a_message(
    served: Served, caplog: pytest.LogCaptureFixture, slug: str, part: str, value: float, seen: str
) -> None:
    request_id = served.submit(slug)
    caplog.handler.addFilter(add_request_id)
    with damaged(weight_of(served.pipelines[slug], part), value=value):
        served.work(slug)
    caplog.handler.removeFilter(add_request_id)
    code, status, error = served.ending(request_id)
    assert (code, status) == (422, "FAILED")
    assert all(cause in error for cause in CAUSES)
    assert f"first seen in {seen}," in error
    logged = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(logged) == 1
    assert logged[0].request_id == request_id
    assert "facelight weights verify" in logged[0].message


@pytest.mark.parametrize("slug", ["ic-light", pytest.param("pulid-lightning", marks=pytest.mark.slow)])
def test_only_the_request_that_is_not_finite_fails_and_leaves_no_files(served: Served, slug: str) -> None:
    """One word's embedding is damaged: of two requests in one run one needs it. Then the weights are whole again."""
    pipeline = served.pipelines[slug]
    word = "zzyx"
    broken = sorted(tokens_of(pipeline, word) - tokens_of(pipeline, "a man"))
    assert broken
    bad = served.submit(slug, prompt=f"a man {word}")
    neighbours = [served.submit(slug, prompt="a man") for _ in range(8)]
    with damaged(embeddings_of(pipeline), broken):
        assert served.work(slug)[0] == 2, "both are drawn in one run"
    assert served.ending(bad)[:2] == (422, "FAILED")
    assert served.ending(neighbours[0])[:2] == (200, "COMPLETED")
    for waiting in neighbours[1:]:
        served.client.delete(f"/v2/requests/{waiting}")
    again = served.submit(slug, prompt=f"a man {word}")
    served.work(slug)
    assert served.ending(again)[:2] == (200, "COMPLETED"), "no embedding of before is used"


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_weights_beyond_ten_are_refused_when_they_are_sent(served: Served, field: str) -> None:
    beyond = {
        "a (man:1e30)": "1e+30",
        "a (man:-1e30)": "-1e+30",
        "a (man:1e999)": "inf",
        "(a (man:10.5):2)": "10.5",
        "(" * 25 + "man" + ")" * 25: "10.83",
        "(" * 4000 + "man" + ")" * 4000: "21.11",
    }
    for text, weight in beyond.items():
        answer = served.client.post("/v2/pulid-lightning", json={"face_image": PHOTO, field: text})
        assert answer.status_code == 400
        assert answer.json()["error"].startswith(f"{field}: the weight of ")
        assert f"is {weight}, and weights go from -10 to 10" in answer.json()["error"]


def test_weights_within_ten_are_served(served: Served) -> None:
    text = f"(a:10) (b:-10) (c:1e-30) (d:0) (e:nan) {'(' * 24}f{')' * 24} {'[' * 100}g{']' * 100} (h:-1e-400)"
    request_id = served.submit("pulid-lightning", prompt=text, negative_prompt=text)
    served.work("pulid-lightning")
    assert served.ending(request_id)[:2] == (200, "COMPLETED")


def test_ic_light_has_no_prompt_weights(served: Served) -> None:
    served.submit("ic-light", prompt="a (man:1e30)")
