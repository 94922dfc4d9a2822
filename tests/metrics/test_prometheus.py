"""Debian's Prometheus beside a live server: every panel of the board has data, and alerts fire and clear."""

from __future__ import annotations

import base64
import io
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.contract.test_demo import quick
from tests.faults.processes.waiting import until
from tests.live_server import LiveServer, free_port, live_server
from tests.metrics.test_configuration import PANELS
from tests.metrics.tools import program
from tests.metrics.watching import SCRAPE_S, Prometheus, prometheus

pytestmark = pytest.mark.slow

WITHOUT_GPU = "facelight_gpu_memory_bytes"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, demo_weights: Path) -> Iterator[tuple[LiveServer, Prometheus]]:
    """A server as `make run` starts it, with metrics, after the sample requests of `make demo`."""
    from cli.demo import run

    program("prometheus")
    folder, port = tmp_path_factory.mktemp("watched"), free_port()
    with live_server(folder, demo_weights, metrics_port=str(port), heartbeat_ttl_s="4") as server:
        server.wait_until_ready()
        with prometheus(folder / "prometheus", port, folder / "redis" / "socket") as watcher:
            time.sleep(2.5 * SCRAPE_S)  # the first scrapes, so that what follows is an increase
            list(run(server.url, None, folder / "out", quick()))
            until(lambda: watcher.query("facelight_images_total > 0"), "a scrape of it all", 30)
            time.sleep(1.5 * SCRAPE_S)
            yield server, watcher


def test_every_panel_has_data(watched: tuple[LiveServer, Prometheus]) -> None:
    _, watcher = watched
    for panel in PANELS:
        found = {target["expr"]: watcher.query(target["expr"]) for target in panel["targets"]}
        expected = [one for one in found if WITHOUT_GPU not in one and (watcher.has_redis or "redis_memory" not in one)]
        assert all(found[one] for one in expected), (panel["title"], found)


def test_figures_are_those_of_the_demo(watched: tuple[LiveServer, Prometheus]) -> None:
    _, watcher = watched

    def value(expression: str) -> float:
        (found,) = watcher.query(expression)
        return float(found["value"][1])

    samples = quick()
    assert value('sum(facelight_requests_total{outcome="completed"})') == len(samples)
    assert value("sum(facelight_images_total)") == len(samples)
    assert value("sum(facelight_requests_accepted_total)") == len(samples)
    stages = {found["metric"]["stage"] for found in watcher.query("facelight_stage_seconds_count > 0")}
    assert {"prepare", "text", "encode", "denoise", "decode", "publish"} <= stages
    whole = value("sum(facelight_request_seconds_sum)")
    denoise = value('sum(facelight_stage_seconds_sum{stage="denoise"})')
    assert 0 < denoise < value("sum(facelight_gpu_seconds_total)") < whole
    assert not {alert for alert in watcher.firing() if alert != "StoreNearlyFull"}


def scripted(watcher: Prometheus, alert: str, begin: Callable[[], None], end: Callable[[], None]) -> None:
    """An outage from `begin` to `end`: the alert fires in it, and is silent after it."""
    assert alert not in watcher.firing()
    begin()
    try:
        until(lambda: alert in watcher.firing(), f"{alert} to fire", 60, pause_s=0.3)
    finally:
        end()
    until(lambda: alert not in watcher.firing(), f"{alert} to clear", 120, pause_s=0.3)


def test_alerts_fire_and_clear(watched: tuple[LiveServer, Prometheus]) -> None:
    """A worker that hangs while a request waits; a Redis that hangs; a gateway that hangs."""
    server, watcher = watched
    processes = server.children()
    sample = quick()[1]

    def hang() -> None:
        processes["worker"].send_signal(signal.SIGSTOP)
        picture = {sample.image_field: "data:image/png;base64," + _tiny_picture(), **sample.params}
        assert httpx.post(f"{server.url}/v2/{sample.slug}", json=picture, trust_env=False).status_code == 200

    scripted(watcher, "NoWorkerForModel", hang, lambda: processes["worker"].send_signal(signal.SIGCONT))
    server.wait_until_ready()
    for alert, name in (("QueueUnreadable", "redis"), ("NoGateway", "gateway")):
        stopped = processes[name]
        scripted(
            watcher,
            alert,
            lambda stopped=stopped: stopped.send_signal(signal.SIGSTOP),
            lambda stopped=stopped: stopped.send_signal(signal.SIGCONT),
        )


def _tiny_picture() -> str:
    out = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 120, 40)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()
