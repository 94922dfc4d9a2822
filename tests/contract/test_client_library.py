"""The public client library and the calls of both API pages work with nothing but the base URL changed."""

from __future__ import annotations

import io
from pathlib import Path

import httpx
import pytest
import segmind
from PIL import Image
from segmind import InferenceFailed, InferenceTimeout, SegmindClient, SegmindError

from tests.contract.client_lines import redirected_client
from tests.live_server import LiveServer
from tests.server.webhooks.support import receiving

PORTRAIT = {
    "seed": 412431,
    "width": 1024,
    "height": 1024,
    "prompt": "A photo of a person",
    "face_style": "high-fidelity",
    "output_format": "png",
    "output_quality": 80,
    "checkpoint_model": "default",
    "number_of_images": 1,
}
RELIT = {
    "cfg": 2,
    "seed": 42,
    "steps": 25,
    "width": 512,
    "height": 640,
    "prompt": "cat, photoshoot, 4k",
    "highres_scale": 1.5,
    "output_format": "webp",
    "lowres_denoise": 0.9,
    "output_quality": 80,
    "appended_prompt": "best quality",
    "highres_denoise": 0.5,
    "negative_prompt": "lowres, bad anatomy, bad hands, cropped, worst quality",
    "number_of_images": 1,
}
QUICK = {**RELIT, "width": 256, "height": 256, "steps": 2, "highres_scale": 1}
SAMPLES = [
    pytest.param("pulid-lightning", "face_image", "face.png", PORTRAIT, (1024, 1024), "PNG", id="pulid-lightning"),
    pytest.param("ic-light", "subject_image", "cat.png", RELIT, (768, 960), "WEBP", id="ic-light"),
]


@pytest.fixture(autouse=True)
def client(live: LiveServer, monkeypatch: pytest.MonkeyPatch) -> SegmindClient:
    """The library's module-level client, pointed at the server under test by the lines of the documentation."""
    client = redirected_client(live.url, monkeypatch)
    client._client.timeout = 120
    return client


def test_a_webhook_is_a_parameter_like_any_other(photo_url: str) -> None:
    """Of the library's two ways to call; what comes back is as without."""
    image = f"{photo_url}/cat.png"
    with receiving() as receiver:
        result = segmind.run("ic-light", subject_image=image, webhook=receiver.url, **QUICK)
        (told,) = receiver.wait_for(1)
        assert {name: told.json[name] for name in ("status", "output", "seed")} == {
            name: result[name] for name in ("status", "output", "seed")
        }
        segmind.run_sync("ic-light", subject_image=image, webhook=receiver.url, **QUICK)
        assert receiver.wait_for(2)[1].json["type"] == "request.completed"


@pytest.mark.parametrize(("slug", "field", "photo", "params", "size", "kind"), SAMPLES)
def test_run_as_on_the_api_page(
    photo_url: str, slug: str, field: str, photo: str, params: dict, size: tuple[int, int], kind: str
) -> None:
    result = segmind.run(slug, **{field: f"{photo_url}/{photo}"}, **params)
    assert result["status"] == "COMPLETED"
    assert result["metrics"]["inference_time"] > 0
    assert result["seed"] == params["seed"]
    response = httpx.get(result["output"])
    picture = Image.open(io.BytesIO(response.content))
    assert (picture.size, picture.format) == (size, kind)
    assert response.headers["content-type"] == f"image/{kind.lower()}"
    assert result["images"][0]["file_size"] == len(response.content)
    assert result["images"][0]["url"] == result["output"]
    assert len(picture.convert("RGB").getcolors(2**24) or []) > 100, "a picture, not one colour"


def test_submit_and_wait_as_on_the_api_page(client: SegmindClient, photo_url: str) -> None:
    job = client.submit_async("ic-light", subject_image=f"{photo_url}/cat.png", **QUICK)
    assert job.request_id
    assert job.status()["status"] in {"QUEUED", "PROCESSING", "COMPLETED"}
    result = job.wait(timeout=600, interval=0.1)
    assert result["status"] == "COMPLETED"
    assert job.result()["output"] == result["output"]


def test_run_sync_returns_the_picture(client: SegmindClient, photo_url: str) -> None:
    response = client.run_sync("ic-light", subject_image=f"{photo_url}/cat.png", **QUICK)
    assert response.headers["content-type"] == "image/webp"
    assert Image.open(io.BytesIO(response.content)).size == (256, 256)
    assert float(response.headers["x-remaining-credits"]) >= 0
    assert response.headers["x-seed-value"] == "42"
    again = client.run_sync("ic-light", subject_image=f"{photo_url}/cat.png", **QUICK)
    assert again.content == response.content, "the same request with the same seed gives the same bytes"


def test_a_picture_without_a_face_is_422_with_a_message(client: SegmindClient, photo_url: str) -> None:
    job = client.submit_async("pulid-lightning", face_image=f"{photo_url}/flat.png")
    with pytest.raises(InferenceFailed) as failure:
        job.wait(interval=0.1)
    assert "face" in (failure.value.detail or "").lower()
    assert failure.value.status_body["status"] == "FAILED"
    with pytest.raises(SegmindError) as sync_failure:
        client.run_sync("pulid-lightning", face_image=f"{photo_url}/flat.png")
    assert sync_failure.value.status == 422
    assert sync_failure.value.detail == failure.value.detail


def test_a_wait_can_time_out_and_be_repeated(client: SegmindClient, photo_url: str) -> None:
    job = client.submit_async("ic-light", subject_image=f"{photo_url}/cat.png", **{**QUICK, "steps": 30})
    with pytest.raises(InferenceTimeout) as timeout:
        job.wait(timeout=0.0, interval=0.01)
    assert timeout.value.request_id == job.request_id
    assert job.wait(interval=0.1)["status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("slug", "params", "status", "words"),
    [
        ("ic-light", {"subject_image": "https://example.com/x.png"}, 400, "prompt"),
        ("ic-light", {"subject_image": "not an image", "prompt": "x"}, 400, "subject_image"),
        ("pulid-lightning", {"face_image": "http://127.0.0.1:9/x.png"}, 400, "face_image"),
        ("pulid-lightning", {"face_image": "x", "output_format": "gif"}, 400, "output_format"),
        ("unknown-model", {"prompt": "x"}, 404, "unknown-model"),
    ],
)
def test_errors_have_a_message(client: SegmindClient, slug: str, params: dict, status: int, words: str) -> None:
    for call in (client.run_sync, client.submit_async):
        with pytest.raises(SegmindError) as refusal:
            call(slug, **params)
        assert refusal.value.status == status
        assert words in (refusal.value.detail or "")


def test_an_unknown_request_is_404_with_a_message(client: SegmindClient, live: LiveServer) -> None:
    with pytest.raises(SegmindError) as refusal:
        client._request("GET", f"{live.url}/v2/requests/0123/status")
    assert (refusal.value.status, refusal.value.detail) == (404, "Request 0123 not found")


def test_uploads_are_stored_here_and_their_urls_are_accepted(live: LiveServer, photos: Path) -> None:
    uploaded = segmind.files.upload(str(photos / "cat.png"))
    assert uploaded["file_urls"] == uploaded["urls"]
    assert uploaded["file_urls"][0].startswith(f"{live.url}/files/")
    result = segmind.run("ic-light", subject_image=uploaded["file_urls"][0], **QUICK)
    assert result["status"] == "COMPLETED"


def test_an_output_url_is_accepted_as_input(client: SegmindClient, photo_url: str) -> None:
    portrait = client.run(
        "pulid-lightning", face_image=f"{photo_url}/face.png", width=256, height=256, output_format="jpg"
    )
    assert portrait["images"][0]["content_type"] == "image/jpeg"
    relit = client.run("ic-light", subject_image=portrait["output"], **QUICK)
    assert relit["status"] == "COMPLETED"
