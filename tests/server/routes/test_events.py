"""The stream of a request's events, and the status that waits: changes are told as they come, by one connection."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from queue import Queue
from typing import Any

import httpx
import pytest

from server.app import create_app
from server.routes import events
from server.routes.events import event_id
from tests.server.conftest import MakeSettings
from tests.server.http.test_drain import gateway
from tests.server.http.test_slow_clients import HURRIED, listening, port_of
from tests.server.support import Client, FakeWorker, serving
from workers.state.record import Record, Status
from workers.state.scripts import CHANGES_PREFIX

PATIENCE_S = 15


class Stream:
    """An open stream of events: each is a dictionary of its fields; a comment is a text."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._parts: Queue[Any] = Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def next(self) -> Any:
        """The next event or comment; None is the end of the stream."""
        return self._parts.get(timeout=PATIENCE_S)

    def event(self) -> dict[str, Any]:
        """The next event, its data parsed."""
        while not isinstance(found := self.next(), dict):
            assert found is not None, "the stream has ended"
        return found

    def until(self, **fields: Any) -> list[dict[str, Any]]:
        """Events up to the first whose data holds these fields."""
        found = [self.event()]
        while not fields.items() <= found[-1]["data"].items():
            found.append(self.event())
        return found

    def rest(self) -> list[Any]:
        """All that comes until the end."""
        return list(iter(self.next, None))

    def leave(self) -> None:
        """Close the connection; closing alone does not wake a thread that reads from it."""
        with suppress(OSError):
            self.response.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _read(self) -> None:
        fields: dict[str, Any] = {}
        try:
            for line in self.response.iter_lines():
                name, _, value = line.partition(": ")
                if line.startswith(":"):
                    self._parts.put(line)
                elif line:
                    fields[name] = json.loads(value) if name == "data" else value
                elif fields:
                    self._parts.put(fields)
                    fields = {}
        except httpx.TransportError as error:
            self._parts.put(repr(error))
        self._parts.put(None)


@contextmanager
def streaming(base_url: Any, request_id: str, **headers: str) -> Iterator[Stream]:
    """Follow a request on a connection of its own."""
    path = f"/v2/requests/{request_id}/events"
    with (
        httpx.Client(base_url=base_url, timeout=PATIENCE_S) as client,
        client.stream("GET", path, headers=headers) as response,
    ):
        assert response.status_code == 200, response.read()
        stream = Stream(response)
        try:
            yield stream
        finally:
            stream.leave()


def channels(worker: FakeWorker) -> list[bytes]:
    """Channels of changes that somebody listens to."""
    found: list[bytes] = worker.redis.pubsub_channels(f"{CHANGES_PREFIX}*")  # type: ignore[assignment]
    return found


def wait_until_heard(worker: FakeWorker, count: int = 1) -> None:
    """Return when the gateway listens to so many requests' changes."""
    deadline = time.monotonic() + PATIENCE_S
    while len(channels(worker)) != count:
        assert time.monotonic() < deadline, f"{len(channels(worker))} channels instead of {count}"
        time.sleep(0.01)


def report(worker: FakeWorker, record: Record, step: int, total: int = 25) -> None:
    worker.records.report(record, step, total)


def test_a_whole_life(client: Client, worker: FakeWorker) -> None:
    request_id = client.submit()
    status_path = f"/v2/requests/{request_id}/status"
    with streaming(client.base_url, request_id) as stream:
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        assert stream.response.headers["cache-control"] == "no-store"
        assert stream.response.headers["x-accel-buffering"] == "no"
        told = [stream.event()]
        assert told[0]["data"] == client.get(status_path).json()
        wait_until_heard(worker)
        record = worker.start(request_id)
        told.append(stream.event())
        assert told[-1]["data"] == client.get(status_path).json()
        for step in (3, 7):
            report(worker, record, step)
            told.append(stream.event())
            assert told[-1]["data"]["progress"] == {"step": step, "total": 25}
        worker.complete(request_id)
        told += stream.rest()
    assert [event["event"] for event in told] == ["status"] * 5
    assert [event["data"]["status"] for event in told] == ["QUEUED", *["PROCESSING"] * 3, "COMPLETED"]
    assert told[-1]["data"] == client.get(status_path).json()
    assert len({event["id"] for event in told}) == 5
    wait_until_heard(worker, 0)


def test_other_ends(client: Client, worker: FakeWorker) -> None:
    failed, cancelled = client.submit(), client.submit()
    with streaming(client.base_url, failed) as one, streaming(client.base_url, cancelled) as other:
        worker.fail(failed)
        client.delete(f"/v2/requests/{cancelled}")
        for request_id, stream, error in ((failed, one, "No face"), (cancelled, other, "cancelled")):
            last = stream.rest()[-1]["data"]
            assert last == client.get(f"/v2/requests/{request_id}/status").json()
            assert (last["status"], error in last["error"]) == ("FAILED", True)


def test_a_request_whose_worker_dies_is_told_anew(client: Client, worker: FakeWorker) -> None:
    request_id = client.submit()
    with streaming(client.base_url, request_id) as stream:
        wait_until_heard(worker)
        record = worker.start(request_id)
        report(worker, record, 5)
        ids = [event["id"] for event in stream.until(progress={"step": 5, "total": 25})]
        assert worker.records.requeue(record)
        ids += [event["id"] for event in stream.until(status="QUEUED")]
        worker.records.cancel(request_id)
        ids += [event["id"] for event in stream.rest()]
    assert ids == sorted(ids) and len(set(ids)) == len(ids)


def test_ids_grow() -> None:
    """In the order in which the states of a request that is tried twice follow one another."""
    states = [(0, Status.QUEUED, 0)]
    for attempt in (1, 2):
        states += [(attempt, Status.PROCESSING, step) for step in (0, 1, 25)]
        states += [(attempt, Status.QUEUED, 0)] if attempt == 1 else [(attempt, Status.COMPLETED, 25)]
    ids = [event_id(Record("x", "ic-light", "", {}, status=s, attempt=a, step=n)) for a, s, n in states]
    numbers = [tuple(map(int, one.split("-"))) for one in ids]
    assert numbers == sorted(set(numbers))


def test_who_comes_back_is_told_the_present_state_only(client: Client, worker: FakeWorker) -> None:
    request_id = client.submit()
    with streaming(client.base_url, request_id) as stream:
        seen = stream.event()["id"]
    record = worker.start(request_id)
    for step in range(1, 9):
        report(worker, record, step)
    with streaming(client.base_url, request_id, **{"Last-Event-ID": seen}) as stream:
        assert stream.event()["data"]["progress"] == {"step": 8, "total": 25}
        worker.complete(request_id)
        (last,) = stream.rest()
    with streaming(client.base_url, request_id, **{"Last-Event-ID": seen}) as stream:
        assert stream.rest() == [last]
    answer = client.get(f"/v2/requests/{request_id}/events", headers={"Last-Event-ID": last["id"]})
    assert (answer.status_code, answer.content) == (204, b""), "an EventSource would come back for ever"


def test_a_burst_is_one_read(client: Client, worker: FakeWorker) -> None:
    def reads() -> int:
        stats: Any = worker.redis.info("commandstats")
        return int(stats["cmdstat_hgetall"]["calls"])

    request_id = client.submit()
    with streaming(client.base_url, request_id) as stream:
        wait_until_heard(worker)
        record = worker.start(request_id)
        stream.until(status="PROCESSING")
        time.sleep(0.2)
        before = reads()
        with worker.redis.pipeline() as burst:
            for _ in range(500):
                burst.publish(CHANGES_PREFIX + request_id, "")
            burst.execute()
        report(worker, record, 9)
        stream.until(progress={"step": 9, "total": 25})
        assert reads() - before < 50


def test_streams_survive_a_lost_connection(client: Client, worker: FakeWorker) -> None:
    request_id = client.submit()
    with streaming(client.base_url, request_id) as stream:
        wait_until_heard(worker)
        for step in (1, 2):
            worker.redis.client_kill_filter(_type="pubsub")
            report(worker, worker.start(request_id), step)  # nobody hears of it
            stream.until(progress={"step": step, "total": 25})
            wait_until_heard(worker)
        worker.complete(request_id)
        assert stream.rest()[-1]["data"]["status"] == "COMPLETED"


def test_silence_is_kept_alive(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.05)
    with streaming(client.base_url, client.submit()) as stream:
        stream.event()
        assert [stream.next(), stream.next()] == [": ", ": "]


def test_open_streams_hold_no_thread(client: Client, worker: FakeWorker) -> None:
    """More of them than the gateway has threads; one that its client leaves is forgotten."""
    ids = [client.submit() for _ in range(60)]
    limits = httpx.Limits(max_connections=100)
    with httpx.Client(base_url=client.base_url, limits=limits, timeout=PATIENCE_S) as many:
        opened = [
            many.send(many.build_request("GET", f"/v2/requests/{request_id}/events"), stream=True) for request_id in ids
        ]
        streams = [Stream(response) for response in opened]
        assert {stream.event()["data"]["status"] for stream in streams} == {"QUEUED"}
        wait_until_heard(worker, 60)
        assert client.get("/v1/get-user-credits").status_code == 200
        for request_id in ids[:30]:
            worker.complete(request_id)
        assert {stream.rest()[-1]["data"]["status"] for stream in streams[:30]} == {"COMPLETED"}
        for stream in streams:
            stream.leave()
        wait_until_heard(worker, 0)


def test_streams_count_as_connections(make_settings: MakeSettings) -> None:
    with serving(make_settings(max_connections=2)) as client:
        request_id = client.submit()
        with streaming(client.base_url, request_id) as stream:
            stream.event()
            with httpx.Client(base_url=client.base_url) as refused:
                assert refused.get("/health/live").status_code == 503


def test_no_time_limit_of_a_connection_ends_a_stream(make_settings: MakeSettings) -> None:
    """Limits of fractions of a second, and a stream in which nothing happens for longer than each of them."""
    settings = make_settings()
    worker = FakeWorker(settings)
    with listening(HURRIED, create_app(settings)) as server:
        url = f"http://127.0.0.1:{port_of(server)}"
        with Client(base_url=url) as client:
            request_id = client.submit()
        with streaming(url, request_id) as stream:
            stream.event()
            time.sleep(
                max(HURRIED.header_s, HURRIED.body_grace_s, HURRIED.body_s, HURRIED.linger_s, HURRIED.stall_s) + 0.2
            )
            worker.complete(request_id)
            assert stream.rest()[-1]["data"]["status"] == "COMPLETED"


def test_head_does_not_wait(client: Client) -> None:
    answer = client.head(f"/v2/requests/{client.submit()}/events")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")


def test_a_gateway_that_ends_ends_streams(make_settings: MakeSettings) -> None:
    """Not before it stops to accept connections: their clients would come back to it."""
    settings = make_settings()
    with gateway(settings, drain_delay_s=0.5, drain_timeout_s=30) as (process, url):
        request_id = Client(base_url=url).submit()
        with streaming(url, request_id) as stream, ThreadPoolExecutor(1) as pool:
            stream.event()
            polling = pool.submit(httpx.get, f"{url}/v2/requests/{request_id}/status?wait=60", timeout=PATIENCE_S)
            told = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert stream.rest() == [": this process ends: connect again"]
            assert 0.5 <= time.monotonic() - told < 5
            assert polling.result().json()["status"] == "QUEUED"
            assert process.wait(5) == 0


WAITING = "/v2/requests/{}/status?wait={}"


def test_a_status_that_waits_for_the_end(client: Client, worker: FakeWorker) -> None:
    """Sixty at once, more than there are threads, and others are served meanwhile."""
    ids = [client.submit() for _ in range(60)]

    async def ask() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=100)
        async with httpx.AsyncClient(base_url=client.base_url, limits=limits, timeout=PATIENCE_S) as many:
            calls = [asyncio.create_task(many.get(WAITING.format(request_id, 60))) for request_id in ids]
            await asyncio.sleep(0.5)
            assert (await many.get("/v1/get-user-credits")).status_code == 200
            assert not any(call.done() for call in calls)
            for request_id in ids[1:]:
                worker.complete(request_id)
            worker.fail(ids[0])
            return list(await asyncio.gather(*calls))

    failed, *completed = asyncio.run(ask())
    assert (failed.status_code, failed.json()["status"]) == (422, "FAILED")
    assert {(answer.status_code, answer.json()["status"]) for answer in completed} == {(200, "COMPLETED")}


def test_a_status_that_waits_in_vain(client: Client, worker: FakeWorker) -> None:
    request_id = client.submit()
    began = time.monotonic()
    assert client.get(WAITING.format(request_id, 0.3)).json()["status"] == "QUEUED"
    assert 0.3 <= time.monotonic() - began < 3
    worker.complete(request_id)
    began = time.monotonic()
    assert client.get(WAITING.format(request_id, 60)).json()["status"] == "COMPLETED"
    assert client.get(WAITING.format("x", 60)).status_code == 404
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("wait", "message"),
    [
        ("61", "wait: must be less than or equal to 60"),
        ("-1", "wait: must be greater than or equal to 0"),
        ("nan", "wait: must be a finite number"),
        ("soon", "wait: must be a valid number, unable to parse string as a number"),
    ],
)
def test_how_long_a_status_may_wait(client: Client, wait: str, message: str) -> None:
    answer = client.get(WAITING.format("x", wait))
    field, _, text = message.partition(": ")
    assert (answer.status_code, answer.json()) == (
        400,
        {"error": message, "detail": [{"field": field, "message": text}]},
    )
