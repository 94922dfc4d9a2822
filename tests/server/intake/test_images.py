"""Pictures that this server keeps already, given as inputs."""

from __future__ import annotations

import pytest

from tests.server.conftest import MakeSettings
from tests.server.support import Client, FakeWorker, Host, body_for, serving


def _portrait(client: Client, worker: FakeWorker) -> str:
    """URL of a finished picture."""
    request_id = client.submit("pulid-lightning")
    worker.complete(request_id)
    url: str = client.get(f"/v2/requests/{request_id}").json()["output"]
    return url


@pytest.mark.parametrize("relative", [False, True])
def test_a_portrait_can_be_relit(client: Client, worker: FakeWorker, relative: bool) -> None:
    url = _portrait(client, worker)
    reference = url.removeprefix(str(client.base_url)) if relative else url
    request_id = client.submit("ic-light", subject_image=reference)
    copy = worker.record(request_id).params["subject_image"]
    assert worker.store.read(copy) == client.get(url).content
    assert copy != url.rpartition("/")[2], "the job has its own copy, whatever becomes of the portrait"


def test_own_files_are_read_without_the_network(make_settings: MakeSettings) -> None:
    """This gateway may fetch nothing from private addresses: its own is one, and its public one does not exist."""
    settings = make_settings(public_url="https://images.example/api")
    worker = FakeWorker(settings)
    with serving(settings) as client:
        url = _portrait(client, worker)
        assert url.startswith("https://images.example/api/files/")
        client.submit("ic-light", subject_image=url)
        client.submit("ic-light", subject_image=f"{client.base_url}{url.removeprefix('https://images.example/api')}")


def test_expired_and_private_files(client: Client, worker: FakeWorker) -> None:
    url = _portrait(client, worker)
    worker.store.delete(url.rpartition("/")[2])
    private = worker.record(client.submit()).params["subject_image"]
    for reference in (url, f"/files/{private}", "/files/", "/files/../../etc/passwd"):
        answer = client.post("/v2/ic-light", json=body_for("ic-light", subject_image=reference))
        assert answer.status_code == 400
        assert answer.json()["error"] == "subject_image: this server has no such file, or no longer"


def test_private_addresses_are_refused_by_default(make_settings: MakeSettings, host: Host) -> None:
    with serving(make_settings()) as client:
        answer = client.post("/v2/ic-light", json=body_for("ic-light", subject_image=f"{host.url}/photo.png"))
    assert answer.status_code == 400
    assert answer.json()["error"] == "subject_image: the URL leads to an address that is not public"
    assert not host.requests
