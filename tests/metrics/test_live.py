"""Metrics of live gateways and workers, scraped as Prometheus does, against what the records say."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from cli.serve import StartupError
from cli.serve import run as serve
from models.catalog import MODELS
from models.pipeline import STAGES
from server.intake.fetcher import FetchOutcome
from server.metrics.calls import REASONS
from server.settings import GatewaySettings
from tests.faults.behaviour import Behaviour
from tests.faults.processes.cluster import Cluster, cluster
from tests.faults.processes.waiting import until
from tests.live_server import free_port
from tests.metrics.scrape import Scrape, port_of, scrape
from tests.metrics.tools import promtool
from workers.state.record import FailureReason
from workers.state.registry import ModelState

REQUESTS, LONG = 200, 3
SLUG = "ic-light"


@dataclass
class Books:
    """What the records in Redis say of all requests."""

    states: Counter[str] = field(default_factory=Counter)
    pictures: int = 0
    attempts: int = 0
    by_worker: int = 0
    stages: Counter[str] = field(default_factory=Counter)


def books(client: Any) -> Books:
    found = Books()
    for key in client.scan_iter("facelight:request:*"):
        record = {name.decode(): value.decode() for name, value in client.hgetall(key).items()}
        found.states[record["status"].lower()] += 1
        found.attempts += int(record["attempt"])
        found.by_worker += bool(record.get("worker"))
        found.pictures += len(json.loads(record.get("outputs", "[]")))
        found.stages.update(json.loads(record.get("stages", "{}")))
    return found


@dataclass(frozen=True)
class Site:
    """A cluster after 200 requests, scraped."""

    cluster: Cluster
    gateways: list[Scrape]
    worker: Scrape


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Two gateways and a worker. Many requests are cancelled while they wait, and a few while they run."""
    with cluster(gateways=2, metrics=True, queue_limit=REQUESTS) as made:

        def submit(number: int) -> str:
            behaviour = Behaviour(steps=3, step_ms=1, label=f"prompt-{number}")
            images = {"number_of_images": 1 + number % 3}
            return made.caller.accept(behaviour, gateway=number % 2, **images)

        with ThreadPoolExecutor(8) as threads:
            ids = list(threads.map(submit, range(REQUESTS - LONG)))
        for request_id in ids[::-10]:
            made.caller.cancel(request_id)
        for number in range(LONG):
            running = made.caller.accept(Behaviour(steps=2000, step_ms=5, label=f"long-{number}"))
            until(lambda running=running: made.caller.status(running) == "PROCESSING", "it to run", 30)
            assert made.caller.cancel(running).code == 202
        made.settled()
        assert made.caller.call("POST", f"/v2/{SLUG}", json={"prompt": "no picture"}).code == 400
        refused = {"subject_image": "http://127.0.0.1:9/a.png", "prompt": "refused"}
        assert made.caller.call("POST", f"/v2/{SLUG}", 1, json=refused).code == 400
        assert made.caller.call("GET", "/nowhere/secret-path").code == 404
        assert httpx.head(f"{made.caller.urls[0]}/health/live", trust_env=False).status_code == 200
        # A worker counts a request when its record has ended: a moment later than the record can be read.
        worker, ended = port_of(made.workers[0]), books(made.redis.client).by_worker
        until(lambda: scrape(worker).sum("facelight_request_seconds_count") >= ended, "the worker to count", 30)
        yield Site(made, [scrape(port_of(each)) for each in made.gateways], scrape(worker))


def test_what_has_ended_is_what_the_records_say(site: Site) -> None:
    """From every gateway, whichever took the requests."""
    found = books(site.cluster.redis.client)
    assert found.states.total() == REQUESTS and LONG <= found.states["failed"] < 40
    for gateway in site.gateways:
        assert gateway.sum("facelight_requests_total", model=SLUG, outcome="completed") == found.states["completed"]
        cancelled = gateway.sum("facelight_requests_total", model=SLUG, reason="cancelled")
        assert cancelled == found.states["failed"] == gateway.sum("facelight_requests_total", outcome="failed")
        assert gateway.sum("facelight_requests_accepted_total", model=SLUG) == REQUESTS
        assert gateway.sum("facelight_requests_waiting") == gateway.sum("facelight_requests_running") == 0
        assert gateway.sum("facelight_requests_total", model="pulid-lightning") == 0


def test_what_a_worker_counts_is_what_the_records_say(site: Site) -> None:
    found, worker = books(site.cluster.redis.client), site.worker
    assert worker.sum("facelight_images_total") == found.pictures
    assert worker.sum("facelight_queue_wait_seconds_count") == found.attempts
    assert worker.sum("facelight_request_seconds_count") == found.by_worker
    assert worker.sum("facelight_request_seconds_count", outcome="completed") == found.states["completed"]
    for stage in ("prepare", "denoise", "publish"):
        assert worker.sum("facelight_stage_seconds_count", stage=stage) >= found.states["completed"]
        # What a cancelled request has taken is still told when it is FAILED already.
        assert worker.sum("facelight_stage_seconds_sum", stage=stage) == pytest.approx(
            found.stages[stage], rel=1e-3, abs=0.5
        )
    runs = worker.sum("facelight_batch_size_count")
    assert 0 < runs <= worker.sum("facelight_batch_size_sum") <= found.attempts
    assert 0 < worker.sum("facelight_gpu_seconds_total") < 120
    assert worker.sum("facelight_step_seconds_count") > 2 * runs * 0.9


def test_waiting_seconds_follow_what_requests_took(site: Site) -> None:
    for gateway in site.gateways:
        mean = gateway.sum("facelight_request_gpu_seconds", model=SLUG, variant="foreground")
        assert 0 < mean < 1
        assert gateway.sum("facelight_waiting_gpu_seconds") == 0


def test_calls_are_counted_by_template_and_status(site: Site) -> None:
    first, second = site.gateways
    submitted = {"route": f"/v2/{SLUG}", "method": "POST"}
    both = sum(each.sum("facelight_http_requests_total", **submitted, status="200") for each in site.gateways)
    assert both == REQUESTS
    assert first.sum("facelight_http_requests_total", **submitted, status="400") == 1
    assert second.sum("facelight_http_request_seconds_count", **submitted) == REQUESTS // 2 - 1
    assert first.sum("facelight_http_requests_total", route="unmatched", status="404") == 1
    assert first.sum("facelight_http_requests_total", route="/health/live", method="HEAD", status="200") == 1
    assert first.sum("facelight_http_requests_total", route="/v2/requests/{request_id}/status") > 0
    assert first.sum("facelight_refused_requests_total", model=SLUG, reason="invalid") == 1
    assert second.sum("facelight_fetches_total", outcome="refused") == 1
    assert first.sum("facelight_http_requests_open") == 0


def test_workers_are_told_by_model_and_state(site: Site) -> None:
    for gateway in site.gateways:
        assert gateway.sum("facelight_workers_alive") == 1
        assert gateway.sum("facelight_workers", model=SLUG, state="ready") == 1
        assert gateway.sum("facelight_workers", model="pulid-lightning") == 0
        assert gateway.sum("facelight_workers_started_total") == 1
        assert gateway.sum("facelight_workers_lost_total") == 0
        assert gateway.sum("facelight_redis_up") == 1
        assert gateway.sum("facelight_queue_limit") == REQUESTS
        free, size = gateway.sum("facelight_store_free_bytes"), gateway.sum("facelight_store_size_bytes")
        assert 0 < free <= size


def test_labels_are_names_of_ours_and_nothing_else(site: Site) -> None:
    """No id, path, prompt or key, and so no more series than there are names."""
    variants = {variant for model in MODELS.values() for variant in model.params.variants}
    known = {
        "model": set(MODELS),
        "variant": variants,
        "outcome": {"completed", "failed", *(outcome.value for outcome in FetchOutcome)},
        "reason": {"", *(reason.value for reason in FailureReason), *REASONS.values()},
        "state": {state.value for state in ModelState},
        "kind": {"compiled", "captured", "eager"},
        "stage": {"prepare", "publish", *STAGES},
        "method": {"GET", "HEAD", "POST", "DELETE"},
        "status": {"200", "202", "400", "404", "422"},
    }
    for tried in (*site.gateways, site.worker):
        for name, label, value in tried.labels():
            if label in known:
                assert value in known[label], (name, label)
            else:
                assert label in ("le", "version", "route"), (name, label)
                assert label != "route" or value == "unmatched" or "-" not in value.replace(SLUG, ""), value
        assert len(tried.samples) < 1000


def test_promtool_has_nothing_to_say(site: Site) -> None:
    for tried in (*site.gateways, site.worker):
        promtool("check", "metrics", text=tried.text)


def test_the_public_port_tells_no_metrics(site: Site) -> None:
    for gateway in site.cluster.gateways:
        public = f"http://127.0.0.1:{gateway.environment['FACELIGHT_PORT']}/metrics"
        assert httpx.get(public, trust_env=False).status_code == 404


def test_without_redis_a_gateway_says_so_and_still_counts_its_calls() -> None:
    with cluster(workers=0, metrics=True) as made:
        (gateway,) = made.gateways
        assert scrape(port_of(gateway)).sum("facelight_redis_up") == 1
        made.redis.end()
        began = time.monotonic()
        found = scrape(port_of(gateway))
        assert time.monotonic() - began < 5
        assert found.sum("facelight_redis_up") == 0
        assert not found.of("facelight_requests_waiting"), "no figure is better than a wrong one"
        assert found.sum("facelight_http_requests_total", route="/health/ready") > 0


@pytest.mark.slow
def test_a_draining_gateway_is_scraped_until_it_ends() -> None:
    with cluster(workers=0, metrics=True, drain_delay_s=1) as made:
        (gateway,) = made.gateways
        gateway.send(signal.SIGTERM)
        time.sleep(0.3)
        assert scrape(port_of(gateway)).sum("facelight_redis_up") == 1
        assert gateway.wait(10) == 0
        with pytest.raises(httpx.ConnectError):
            scrape(port_of(gateway))


@pytest.mark.parametrize("module", ["server", "workers"])
def test_a_port_that_is_taken_is_named_at_the_start(module: str, redis_url: str, tmp_path: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        settings = {"METRICS_PORT": port, "REDIS_URL": redis_url, "DATA_DIR": str(tmp_path), "PORT": "0"}
        environment = {f"FACELIGHT_{name}": value for name, value in settings.items()}
        command = [sys.executable, "-m", module]
        ended = subprocess.run(command, env={**_clean(), **environment}, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert f"FACELIGHT_METRICS_PORT: cannot listen on 127.0.0.1:{port}: Address already in use" in ended.stderr


def test_serve_needs_the_next_port_for_its_worker(tmp_path: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = GatewaySettings(data_dir=tmp_path, port=free_port(), metrics_port=taken.getsockname()[1] - 1)
        with pytest.raises(StartupError, match="FACELIGHT_METRICS_PORT"):
            serve(settings, demo=True, on_ready=lambda: None)


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("FACELIGHT_")}


@pytest.mark.slow
def test_the_books_are_exact_though_workers_die() -> None:
    with cluster(
        gateways=2, metrics=True, heartbeat_ttl_s=2, janitor_interval_s=0.5, queue_limit=REQUESTS, max_batch=1
    ) as made:
        for number in range(40):
            ending = {"ending": "segfault", "on_runs": 1 if number % 16 else None} if number % 8 == 0 else {}
            made.caller.accept(Behaviour(label=f"prompt-{number}", **ending), gateway=number % 2)
        made.settled()
        until(lambda: scrape(port_of(made.gateways[0])).sum("facelight_workers_lost_total") >= 5, "the lost", 20)
        found = books(made.redis.client)
        for gateway in map(scrape, map(port_of, made.gateways)):
            assert gateway.sum("facelight_requests_total", outcome="completed") == found.states["completed"]
            died = gateway.sum("facelight_requests_total", reason="worker_died")
            assert died == found.states["failed"] == 3
            assert gateway.sum("facelight_requests_requeued_total") == found.attempts - 40
