"""The place of a request in its queue, as its status and its events tell it."""

from __future__ import annotations

from tests.server.conftest import MakeSettings
from tests.server.routes.test_events import streaming
from tests.server.support import DATA_URI, KEYS, Client, FakeWorker, serving


def test_a_place_in_the_queue_is_told(client: Client, worker: FakeWorker) -> None:
    """It gets better as others are claimed or cancelled, and is absent once the request is claimed itself."""
    first, second, third, asked = (client.submit() for _ in range(4))
    with streaming(client.base_url, asked) as stream:
        assert stream.event()["data"]["queue_position"] == 4
        worker.start(first)
        assert stream.event()["data"]["queue_position"] == 3
        client.delete(f"/v2/requests/{third}")
        assert stream.event()["data"]["queue_position"] == 2
        worker.start(second)
        assert stream.event()["data"]["queue_position"] == 1
        worker.start(asked)
        (claimed,) = stream.until(status="PROCESSING")
        assert "queue_position" not in claimed["data"]
        worker.complete(asked)
        assert "queue_position" not in stream.rest()[-1]["data"]


def test_places_are_those_of_one_queue(client: Client, worker: FakeWorker) -> None:
    """Other models' requests, and those that need other weights, do not stand before."""

    def place(request_id: str) -> object:
        return client.get(f"/v2/requests/{request_id}/status").json().get("queue_position")

    ids = [
        client.submit("ic-light"),
        client.submit("pulid-lightning"),
        client.submit("pulid-lightning", checkpoint_model="artistic"),
        client.submit("ic-light", background_image=DATA_URI),
    ]
    assert [place(request_id) for request_id in ids] == [1, 1, 1, 1]
    behind = client.submit("ic-light")
    assert place(behind) == 2
    worker.start(ids[0])
    assert (place(ids[0]), place(behind)) == (None, 1)
    worker.complete(behind)
    assert place(behind) is None
    client.delete(f"/v2/requests/{ids[1]}")
    assert place(ids[1]) is None


def test_a_request_that_is_tried_again_is_the_next(client: Client, worker: FakeWorker) -> None:
    asked, other = client.submit(), client.submit()
    record = worker.start(asked)
    with streaming(client.base_url, other) as stream:
        assert stream.event()["data"]["queue_position"] == 1
        assert worker.records.requeue(record)
        assert client.get(f"/v2/requests/{asked}/status").json()["queue_position"] == 1
        assert client.get(f"/v2/requests/{other}/status").json()["queue_position"] == 2
        assert stream.event()["data"]["queue_position"] == 2, "also a worse place is told"


def test_places_of_different_callers(make_settings: MakeSettings) -> None:
    """The queue is fair: the first request of one caller stands before the second of another."""
    with serving(make_settings(api_keys=",".join(KEYS))) as client:

        def place(key: str, request_id: str) -> int:
            answer = client.get(f"/v2/requests/{request_id}/status", headers={"x-api-key": key})
            position: int = answer.json()["queue_position"]
            return position

        ids = []
        for key in (KEYS[0], KEYS[0], KEYS[1]):
            client.headers["x-api-key"] = key
            ids.append(client.submit())
        assert (place(KEYS[0], ids[0]), place(KEYS[1], ids[2]), place(KEYS[0], ids[1])) == (1, 2, 3)
