"""Requests that nobody wants any more: cancelled by DELETE, or by a client that hangs up. And how far they are."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable

import pytest

from tests.server.support import Client, FakeWorker, body_for
from workers.state.record import Status

CANCELLED = "The request was cancelled."


def wait_until(holds: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_that_waits_ends_at_once(client: Client, worker: FakeWorker) -> None:
    request_id = client.submit()
    images = worker.record(request_id).stored_images.values()
    answer = client.delete(f"/v2/requests/{request_id}")
    assert (answer.status_code, answer.json()["status"], answer.json()["error"]) == (200, "FAILED", CANCELLED)
    assert client.get(f"/v2/requests/{request_id}/status").status_code == 422
    assert worker.records.depth("ic-light") == 0
    assert images and all(worker.store.find(name) is None for name in images)


def test_one_that_runs_ends_soon(client: Client, worker: FakeWorker) -> None:
    request_id = client.submit()
    record = worker.start(request_id)
    answer = client.delete(f"/v2/requests/{request_id}")
    assert (answer.status_code, answer.json()["status"]) == (202, "PROCESSING")
    assert worker.records.report(record, 1, 25), "the worker is told"
    assert worker.records.fail(record, CANCELLED)
    answer = client.delete(f"/v2/requests/{request_id}")
    assert (answer.status_code, answer.json()["error"]) == (200, CANCELLED)


@pytest.mark.parametrize("end", ["complete", "fail"])
def test_one_that_has_ended_stays_as_it_is(client: Client, worker: FakeWorker, end: str) -> None:
    request_id = client.submit()
    getattr(worker, end)(request_id)
    before = worker.record(request_id)
    answer = client.delete(f"/v2/requests/{request_id}")
    assert (answer.status_code, answer.json()["status"]) == (200, before.status)
    assert worker.record(request_id) == before


def test_one_that_does_not_exist(client: Client) -> None:
    answer = client.delete("/v2/requests/nobody")
    assert (answer.status_code, answer.json()) == (404, {"error": "Request nobody not found"})


def test_progress(client: Client, worker: FakeWorker) -> None:
    def body() -> dict[str, object]:
        return dict(client.get(f"/v2/requests/{request_id}/status").json())

    request_id = client.submit()
    assert "progress" not in body()
    record = worker.start(request_id)
    assert "progress" not in body(), "no step is known yet"
    assert not worker.records.report(record, 3, 25)
    assert body()["progress"] == {"step": 3, "total": 25}
    worker.complete(request_id)
    assert "progress" not in body()


@pytest.mark.parametrize("key", ["", "a-key"], ids=["alone", "with a key"])
@pytest.mark.parametrize("running", [False, True], ids=["waits", "runs"])
def test_a_client_that_hangs_up(client: Client, worker: FakeWorker, key: str, running: bool) -> None:
    """Its request is cancelled, unless its Idempotency-Key lets somebody ask for it again."""
    connection = http.client.HTTPConnection(client.base_url.host, client.base_url.port)
    headers = {"Content-Type": "application/json", **({"Idempotency-Key": key} if key else {})}
    connection.request("POST", "/v1/ic-light", json.dumps(body_for("ic-light")), headers)
    request_id = worker.await_request("ic-light")
    if running:
        worker.start(request_id)
    connection.close()
    if key:
        client.get("/v1/get-user-credits")
        time.sleep(0.2)
        assert worker.record(request_id).status is (Status.PROCESSING if running else Status.QUEUED)
        assert not worker.record(request_id).cancel_requested
    elif running:
        wait_until(lambda: worker.record(request_id).cancel_requested)
    else:
        wait_until(lambda: worker.record(request_id).status is Status.FAILED)
        assert worker.record(request_id).error == CANCELLED
