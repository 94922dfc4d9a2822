"""A Redis that accepts connections and never answers: no call waits for it, and nothing is lost by it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.catalog import MODELS
from server.settings import GatewaySettings
from tests.conftest import wait_for_redis
from tests.faults.processes.shim import Shim
from tests.faults.processes.waiting import until
from tests.server.conftest import NEVER
from tests.server.outages.test_without_redis import own_redis
from tests.server.support import DATA_URI, Client, FakeWorker, body_for, serving
from tests.workers.state.support import unfinished
from workers.state.connection import connect
from workers.state.keys import Keys
from workers.state.record import Status

BOUND_S = 5.0
READY_BOUND_S = 2.0
Silence = tuple[str, Callable[[], None], Callable[[], None]]
Kind = tuple[str, str, dict[str, Any]]
READY: Kind = ("GET", "/health/ready", {})


@contextmanager
def stopped() -> Iterator[Silence]:
    """Redis' URL, and what stops its process and has it go on."""
    with own_redis() as (url, process):
        wait_for_redis(url)
        yield url, lambda: process.send_signal(signal.SIGSTOP), lambda: process.send_signal(signal.SIGCONT)


@contextmanager
def dropped() -> Iterator[Silence]:
    """The URL of a proxy before Redis; it accepts and never forwards, and in the end its connections are gone."""
    with own_redis() as (url, _):
        wait_for_redis(url)
        with Shim(Path(url.removeprefix("unix://"))) as shim:

            def end() -> None:
                shim.cut()
                shim.resume()

            yield shim.url, shim.pause, end


def kinds(request_id: str, upload: str) -> list[Kind]:
    """One call of every kind that needs Redis, of a caller with an issued key."""
    submissions: list[Kind] = [
        ("POST", f"/{version}/{slug}", {"json": body_for(slug)}) for version in ("v1", "v2") for slug in MODELS
    ]
    return [
        *submissions,
        ("GET", f"/v2/requests/{request_id}/status", {}),
        ("GET", f"/v2/requests/{request_id}", {}),
        ("GET", f"/v1/requests/{request_id}", {}),
        ("DELETE", f"/v2/requests/{request_id}", {}),
        ("GET", "/v1/get-user-credits", {}),
        ("POST", "/upload-asset", {"json": {"data_urls": [DATA_URI]}}),
        ("POST", "/v2/ic-light", {"json": body_for("ic-light") | {"subject_image": upload}}),
        ("GET", upload, {}),
    ]


def timed(client: Client, kind: Kind) -> tuple[Kind, httpx.Response, float]:
    method, path, options = kind
    began = time.monotonic()
    answer = client.request(method, path, timeout=60, **options)
    return kind, answer, time.monotonic() - began


def check_refused(called: tuple[Kind, httpx.Response, float]) -> None:
    (method, path, _), answer, seconds = called
    assert seconds <= BOUND_S, f"{method} {path} took {seconds:.1f} s"
    assert answer.status_code == 503, f"{method} {path}: {answer.status_code} {answer.text}"
    assert int(answer.headers["retry-after"]) > 0
    assert set(answer.json()) == {"error"}


def check_not_ready(called: tuple[Kind, httpx.Response, float]) -> None:
    _, answer, seconds = called
    assert (answer.status_code, answer.json()["ready"]) == (503, False)
    assert seconds <= READY_BOUND_S


@pytest.mark.parametrize("silent", [stopped, pytest.param(dropped, marks=pytest.mark.slow)])
def test_every_call_is_turned_away_in_time(silent: Callable[[], Any], tmp_path: Path) -> None:
    with silent() as (url, begin, end), ThreadPoolExecutor(90) as pool:
        common = {"redis_url": url, "data_dir": tmp_path, "janitor_interval_s": NEVER}
        guarded, free = GatewaySettings(**common, require_key=True), GatewaySettings(**common)
        with serving(guarded) as client, serving(free) as keyless:
            _, secret = Keys(connect(url)).add("alice", rate=1000, credits=1000)
            client._transport = httpx.HTTPTransport(limits=httpx.Limits(max_connections=200))
            client.headers["x-api-key"] = secret
            worker = FakeWorker(guarded)
            upload = client.post("/upload-asset", json={"data_urls": [DATA_URI]}).json()["file_urls"][0]
            finished, waiting, keyless_id = client.submit(), client.submit("pulid-lightning"), keyless.submit()
            worker.complete(finished)
            patient = pool.submit(client.post, "/v1/ic-light", json=body_for("ic-light"), timeout=60)
            until(lambda: worker.records.depth("ic-light") == 2, "the waiting call to be accepted")
            accepted = set(unfinished(worker.redis))

            begin()
            try:
                check_not_ready(timed(client, READY))
                # More at once than the gateway has threads.
                calls = [pool.submit(timed, client, kind) for kind in 4 * kinds(finished, upload)]
                calls += [pool.submit(timed, keyless, kind) for kind in kinds(keyless_id, upload)[:8]]
                time.sleep(1)  # they are under way, and wait for Redis
                ready = [pool.submit(timed, client, READY) for _ in range(5)]
                for _ in range(5):
                    _, alive, seconds = timed(keyless, ("GET", "/health/live", {}))
                    assert alive.status_code == 200
                    assert seconds <= READY_BOUND_S, "it asks nobody"
                for call in ready:
                    check_not_ready(call.result())
                for call in calls:
                    check_refused(call.result())
                for kind in kinds(finished, upload):  # and later on as well
                    check_refused(timed(client, kind))
            finally:
                end()

            until(lambda: client.get("/v1/get-user-credits").status_code == 200, "Redis to be used again", 10)
            until(lambda: keyless.get(f"/v2/requests/{keyless_id}/status").status_code == 200, "the other one", 10)
            assert accepted <= {found for found in unfinished(worker.redis) if worker.record(found).params}
            for request_id in accepted:
                worker.complete(request_id)
            assert patient.result(30).status_code == 200, "what was accepted before is answered"
            assert {worker.record(found).status for found in accepted} == {Status.COMPLETED}
            assert client.get(f"/v2/requests/{waiting}").json()["status"] == "COMPLETED"
            assert client.get(f"/v2/requests/{finished}").json()["status"] == "COMPLETED"
            assert client.post("/upload-asset", json={"data_urls": [DATA_URI]}).status_code == 200
            assert client.get(upload).status_code == 200
            assert client.submit()


def test_a_dead_connection_is_replaced(tmp_path: Path) -> None:
    """A connection of the pool goes silent, as behind a firewall that forgot it, while Redis answers on new ones."""
    with own_redis() as (url, _):
        wait_for_redis(url)
        with Shim(Path(url.removeprefix("unix://"))) as shim:
            settings = GatewaySettings(redis_url=shim.url, data_dir=tmp_path, janitor_interval_s=NEVER)
            with serving(settings) as client:
                request_id = client.submit()
                shim.mute()
                _, answer, seconds = timed(client, ("GET", f"/v2/requests/{request_id}/status", {}))
                assert (answer.status_code, answer.json()["status"]) == (200, "QUEUED")
                assert seconds <= BOUND_S
                assert client.submit()
