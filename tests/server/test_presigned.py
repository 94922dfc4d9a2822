"""Results whose pictures are downloaded from the bucket itself."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pydantic import ValidationError

from server.settings import GatewaySettings
from tests.server.conftest import MakeSettings
from tests.server.support import DATA_URI, Client, FakeWorker, body_for, serving


@pytest.fixture
def presigning(make_settings: MakeSettings, bucket: str, s3_url: str) -> GatewaySettings:
    return make_settings(store=f"s3://{bucket}/some/where", presigned_endpoint=s3_url)


def completed(client: Client, worker: FakeWorker, pictures: int = 1) -> list[dict[str, str]]:
    """The pictures of a finished request."""
    request_id = client.submit("pulid-lightning", number_of_images=pictures)
    worker.complete(request_id)
    result = client.get(f"/v2/requests/{request_id}").json()
    assert result["output"] == result["images"][0]["url"]
    images: list[dict[str, str]] = result["images"]
    return images


def test_pictures_are_downloaded_from_the_bucket_without_the_gateway(
    presigning: GatewaySettings, bucket: str, s3_url: str
) -> None:
    worker = FakeWorker(presigning)
    with serving(presigning) as client:
        images = completed(client, worker, pictures=2)
        sent = [client.get(f"/files/{image['file_name']}").content for image in images]  # by the gateway, too
    for image, data in zip(images, sent, strict=True):
        assert image["url"].startswith(f"{s3_url}/{bucket}/some/where/{image['file_name']}?")
        answer = httpx.get(image["url"])
        assert (answer.status_code, answer.content) == (200, data)
        assert answer.headers["content-type"] == image["content_type"] == "image/png"
        assert int(parse_qs(urlsplit(image["url"]).query)["X-Amz-Expires"][0]) == pytest.approx(3600, abs=30)


def test_they_are_accepted_as_inputs_without_the_network(presigning: GatewaySettings) -> None:
    """This gateway may fetch nothing from private addresses, as the bucket's is."""
    worker = FakeWorker(presigning)
    with serving(presigning) as client:
        (image,) = completed(client, worker)
        request_id = client.submit("ic-light", subject_image=image["url"])
        copy = worker.record(request_id).params["subject_image"]
        assert worker.store.read(copy) == worker.store.read(image["file_name"])
        other = image["url"].replace("/some/where/", "/else/where/")
        answer = client.post("/v2/ic-light", json=body_for("ic-light", subject_image=other))
        assert answer.json()["error"] == "subject_image: the URL leads to an address that is not public"


def test_uploads_stay_at_the_gateway(presigning: GatewaySettings) -> None:
    """They may be private, and a presigned URL asks for no key."""
    with serving(presigning) as client:
        answer = client.post("/upload-asset", json={"data_urls": [DATA_URI]})
        assert answer.json()["file_urls"][0].startswith(f"{client.base_url}/files/")


@pytest.mark.parametrize(
    ("store", "endpoint", "words"),
    [
        (None, "https://s3.example.com", "needs FACELIGHT_STORE to be s3://bucket/prefix"),
        ("/var/pictures", "https://s3.example.com", "needs FACELIGHT_STORE to be s3://bucket/prefix"),
        ("s3://pictures", "s3.example.com", "must be an absolute"),
    ],
)
def test_settings_that_do_not_fit_are_refused(store: str | None, endpoint: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        GatewaySettings(store=store, presigned_endpoint=endpoint)


def test_without_the_setting_the_gateway_sends_pictures(make_settings: MakeSettings, bucket: str) -> None:
    settings = make_settings(store=f"s3://{bucket}")
    worker = FakeWorker(settings)
    with serving(settings) as client:
        (image,) = completed(client, worker)
        assert image["url"].startswith(f"{client.base_url}/files/")
