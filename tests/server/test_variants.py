"""What needs weights that not every worker has: accepted where some worker has them, refused elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.support import DATA_URI, PNG, Client, FakeWorker, Host, body_for, image_field, picture
from tests.workers.state.support import claim
from workers.state.registry import ModelReport, ModelState

SUBJECT = image_field("ic-light")
PLAIN = ModelReport(ModelState.READY, "real", variants=("foreground",))
ABLE = ModelReport(ModelState.READY, "real", variants=("foreground", "background"))
BACKGROUND = picture(40, 34)


def stored(worker: FakeWorker, answer: Any) -> dict[str, bytes | None]:
    """The pictures of an accepted request by field."""
    assert answer.status_code == 200, answer.text
    params = worker.record(answer.json()["request_id"]).params
    return {name: worker.store.read(params[name]) for name in (SUBJECT, "background_image") if params[name] is not None}


def test_a_background_is_kept_beside_the_subject(client: Client, worker: FakeWorker, host: Host) -> None:
    worker.heartbeat(ic_light=ABLE)
    host.pages["/wall.png"] = (200, {"Content-Type": "image/png"}, BACKGROUND)
    by_url = client.post("/v2/ic-light", json=body_for("ic-light", background_image=f"{host.url}/wall.png"))
    assert stored(worker, by_url) == {SUBJECT: PNG, "background_image": BACKGROUND}
    files = {SUBJECT: ("a.png", PNG, "image/png"), "background_image": ("b.png", BACKGROUND, "image/png")}
    by_file = client.post("/v2/ic-light", data={"prompt": "x"}, files=files)
    assert stored(worker, by_file) == {SUBJECT: PNG, "background_image": BACKGROUND}


@pytest.mark.parametrize("fields", [{}, {"background_image": None}], ids=["absent", "null"])
def test_without_a_background_any_worker_will_do(client: Client, worker: FakeWorker, fields: dict[str, Any]) -> None:
    worker.heartbeat(ic_light=PLAIN)
    assert set(stored(worker, client.post("/v2/ic-light", json=body_for("ic-light", **fields)))) == {SUBJECT}


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_without_the_weights_a_background_is_refused(client: Client, worker: FakeWorker, version: str) -> None:
    worker.heartbeat(ic_light=PLAIN)
    answer = client.post(f"/{version}/ic-light", json=body_for("ic-light", background_image=DATA_URI))
    assert answer.status_code == 400
    assert answer.json()["error"] == (
        "background_image: cannot be served: no worker of this server has the weights for 'background'"
    )
    assert answer.json()["detail"][0]["field"] == "background_image"
    assert worker.records.depth("ic-light") == 0


def test_before_any_worker_serves_a_background_waits_like_every_request(client: Client, worker: FakeWorker) -> None:
    worker.heartbeat(ic_light=ModelReport(ModelState.LOADING))
    answer = client.post("/v2/ic-light", json=body_for("ic-light", background_image=DATA_URI))
    assert "background_image" in stored(worker, answer)


def test_a_background_must_be_a_picture(client: Client, worker: FakeWorker) -> None:
    worker.heartbeat(ic_light=ABLE)
    answer = client.post("/v2/ic-light", json=body_for("ic-light", background_image="data:,text"))
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("background_image: ")


def test_each_request_waits_before_those_who_can_serve_it(client: Client, worker: FakeWorker) -> None:
    worker.heartbeat(
        ic_light=ABLE, pulid_lightning=ModelReport(ModelState.READY, "real", variants=("default", "artistic"))
    )
    sent = {
        ("ic-light", "foreground"): client.submit("ic-light"),
        ("ic-light", "background"): client.submit("ic-light", background_image=DATA_URI),
        ("pulid-lightning", "default"): client.submit("pulid-lightning"),
        ("pulid-lightning", "artistic"): client.submit("pulid-lightning", checkpoint_model="artistic"),
    }
    for (slug, variant), request_id in sent.items():
        record = claim(worker.records, slug, variant, f"played-{variant}")
        assert record is not None
        assert record.request_id == request_id


@pytest.mark.parametrize(("kept", "fields"), [("default", {"checkpoint_model": "artistic"}), ("artistic", {})])
def test_a_checkpoint_that_no_worker_keeps_is_refused_by_name(
    client: Client, worker: FakeWorker, kept: str, fields: dict[str, Any]
) -> None:
    worker.heartbeat(pulid_lightning=ModelReport(ModelState.READY, "real", variants=(kept,)))
    answer = client.post("/v1/pulid-lightning", json=body_for("pulid-lightning", **fields))
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("checkpoint_model: cannot be served: ")
    assert worker.records.depth("pulid-lightning") == 0


def test_the_document_tells_extensions_from_the_hosted_api(client: Client) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for name in ("IcLightParams", "IcLightParamsForm"):
        field = schemas[name]["properties"]["background_image"]
        assert field["x-extension"] is True
        assert "Extension" in field["description"]
        assert "background_image" not in schemas[name]["required"]
