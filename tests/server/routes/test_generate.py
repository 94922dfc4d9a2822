"""v1 calls: they wait, and are woken."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.server.conftest import MakeSettings
from tests.server.support import SLUGS, Client, FakeWorker, body_for, serving

FORMS = {"png": "image/png", "webp": "image/webp", "jpg": "image/jpeg"}


def call(client: Client, act: Callable[[str], Any], worker: FakeWorker, **fields: Any) -> tuple[httpx.Response, str]:
    """Send a v1 call and let `act` play the worker once its request has arrived; answer and request id."""
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[httpx.Response] = pool.submit(client.post, "/v1/ic-light", json=body_for("ic-light", **fields))
        request_id = worker.await_request("ic-light")
        assert not waiting.done()
        act(request_id)
        return waiting.result(20), request_id


@pytest.mark.parametrize("form", FORMS)
def test_one_picture_is_answered_as_it_is(client: Client, worker: FakeWorker, form: str) -> None:
    answer, request_id = call(client, worker.complete, worker, output_format=form, seed=2**53 - 1)
    output = worker.record(request_id).outputs[0]
    assert answer.status_code == 200
    assert answer.content == worker.store.read(output.name)
    assert answer.headers["content-type"] == FORMS[form]
    assert answer.headers["X-Request-Id"] == request_id
    assert float(answer.headers["X-generation-time"]) == 1.25
    assert answer.headers["x-seed-value"] == str(2**53 - 1)
    assert json.loads(answer.headers["X-output-metadata"]) == {"height": 32, "width": 48, "samples": 1}
    assert float(answer.headers["X-remaining-credits"]) > 0


def test_several_pictures_are_answered_as_json(client: Client, worker: FakeWorker) -> None:
    answer, request_id = call(client, worker.complete, worker, number_of_images=3)
    assert answer.status_code == 200
    assert answer.json() == client.get(f"/v2/requests/{request_id}").json()
    assert len(answer.json()["images"]) == 3
    assert json.loads(answer.headers["X-output-metadata"])["samples"] == 3


def test_a_failure_is_422_with_the_body_of_v2(client: Client, worker: FakeWorker) -> None:
    answer, request_id = call(client, worker.fail, worker)
    assert answer.status_code == 422
    assert answer.json() == client.get(f"/v2/requests/{request_id}").json()
    assert answer.json()["error"] == "No face was found in the picture."


def test_a_server_that_stops_answers_those_who_wait(make_settings: MakeSettings) -> None:
    settings = make_settings()
    worker = FakeWorker(settings)
    with ThreadPoolExecutor(1) as pool:
        with serving(settings, patience_s=1) as client:
            waiting = pool.submit(
                httpx.post, client.base_url.join("/v1/ic-light"), json=body_for("ic-light"), timeout=30
            )
            request_id = worker.await_request("ic-light")
        answer = waiting.result()
    assert (answer.status_code, answer.json()["request_id"]) == (504, request_id)
    worker.complete(request_id)


def test_too_slow_is_504_and_the_request_goes_on(make_settings: MakeSettings) -> None:
    settings = make_settings(sync_timeout_s=0.2)
    worker = FakeWorker(settings)
    with serving(settings) as client:
        answer = client.post("/v1/pulid-lightning", json=body_for("pulid-lightning"))
        assert answer.status_code == 504
        body = answer.json()
        assert set(body) == {"error", "request_id", "status_url", "response_url", "poll_url"}
        assert client.get(body["status_url"]).json()["status"] == "QUEUED"
        worker.complete(body["request_id"])
        assert client.get(body["response_url"]).json()["status"] == "COMPLETED"


@pytest.mark.parametrize("slug", SLUGS)
def test_an_end_before_the_first_look_is_seen(client: Client, worker: FakeWorker, slug: str) -> None:
    """A worker that is faster than the gateway: nobody waits for ever."""
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(client.post, f"/v1/{slug}", json=body_for(slug)) for _ in range(8)]
        for _ in calls:
            worker.complete(worker.await_request(slug))
        assert [waiting.result(20).status_code for waiting in calls] == [200] * 8


def _await_the_listener(worker: FakeWorker) -> None:
    """Wait for the connection that listens for all; it may just be made anew."""
    while not (listeners := worker.redis.client_list(_type="pubsub")):
        time.sleep(0.01)
    assert len(listeners) == 1


def test_waiters_survive_a_lost_connection(client: Client, worker: FakeWorker) -> None:
    def end_unheard(request_id: str) -> None:
        worker.redis.client_kill_filter(_type="pubsub")
        worker.complete(request_id)

    def end_and_cut(request_id: str) -> None:
        worker.complete(request_id)
        worker.redis.client_kill_filter(_type="pubsub")

    for act in (end_unheard, end_and_cut):
        answer, _ = call(client, act, worker)
        assert answer.status_code == 200
        _await_the_listener(worker)


def test_other_calls_are_served_while_many_wait(client: Client, worker: FakeWorker) -> None:
    """More waiters than worker threads: waiting occupies none."""
    limits = httpx.Limits(max_connections=100)
    with ThreadPoolExecutor(60) as pool, httpx.Client(base_url=client.base_url, limits=limits, timeout=30) as many:
        calls = [pool.submit(many.post, "/v1/ic-light", json=body_for("ic-light")) for _ in range(60)]
        ids = [worker.await_request("ic-light") for _ in calls]
        _await_the_listener(worker)
        assert client.get("/v1/get-user-credits").status_code == 200
        assert client.get(f"/v2/requests/{ids[0]}/status").json()["status"] == "QUEUED"
        for request_id in ids:
            worker.complete(request_id)
        assert {waiting.result(20).status_code for waiting in calls} == {200}
