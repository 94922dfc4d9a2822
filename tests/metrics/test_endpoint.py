"""The port for Prometheus, by itself."""

from __future__ import annotations

import socket
import time

from tests.metrics.scrape import scrape
from workers.metrics.endpoint import new_registry, serving
from workers.settings import CommonSettings


def test_every_process_tells_its_version_and_its_memory() -> None:
    with serving(CommonSettings(), new_registry()) as port:
        found = scrape(port)
    assert found.sum("facelight_build_info") == 1
    assert found.sum("process_resident_memory_bytes") > 2**20
    assert time.time() - found.sum("process_start_time_seconds") > 0
    assert not [sample for sample in found.samples if sample.name.endswith("_created")]


def test_connections_that_say_nothing_are_closed_and_delay_nobody() -> None:
    with (
        serving(CommonSettings(), new_registry(), idle_s=0.3) as port,
        socket.create_connection(("127.0.0.1", port), timeout=5) as silent,
    ):
        assert scrape(port).sum("facelight_build_info") == 1
        assert silent.recv(1) == b""
