"""What it costs to count for Prometheus, and to answer it."""

from __future__ import annotations

import http.client
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from bench.load.client import Connection, in_turn, percentile, post_json
from bench.load.requests import tiny_request
from bench.load.roles import SLUG, Workload
from bench.load.stack import Site, Stack, free_port, held, stack
from bench.report import Report
from workers.state.records import Records

_PAIRS: Final = 1500
_WARM_UP: Final = 100
_WAITING: Final = 10_000
_SCRAPES: Final = 40
_FIRST_SCRAPES: Final = 3
_OWNERS: Final = 50
_SCRAPE_EVERY_S: Final = 5.0


def metrics(report: Report, site: Site, scale: float) -> None:
    """A no-op request with metrics, which are scraped meanwhile, against one without; a scrape with many waiting."""
    scraped, waiting = (free_port(), free_port()), max(100, round(_WAITING * scale))
    with (
        tempfile.TemporaryDirectory(prefix="facelight-bench-", dir=site.stack.folder.parent) as folder,
        stack(Path(folder)) as own,
        own.gateway(metrics_port=str(scraped[0])) as (port, _),
        own.worker(port, metrics_port=str(scraped[1])) as worker,
    ):
        _compare(report, site.port, port, scraped, scale)
        (of_worker,) = in_turn([partial(scrape, scraped[1])], _SCRAPES, _FIRST_SCRAPES)
        with held(worker):
            _enqueue(own, waiting)
            (of_gateway,) = in_turn([partial(scrape, scraped[0])], _SCRAPES, _FIRST_SCRAPES)
            own.redis.flushdb()
    report.add(f"scrape of a gateway, {waiting:,} waiting: p50", percentile(of_gateway, 0.5), "ms", goal="<= 20")
    report.add("scrape of a worker: p50", percentile(of_worker, 0.5), "ms")


def _compare(report: Report, without: int, counted: int, scraped: Sequence[int], scale: float) -> None:
    body = post_json(f"/v1/{SLUG}", tiny_request(Workload.TINY))
    with Connection(without) as plain, Connection(counted) as ours, _scraping(scraped):
        exchanges = [partial(plain.ask, body), partial(ours.ask, body)]
        off, on = in_turn(exchanges, max(10, round(_PAIRS * scale)), _WARM_UP)
    for name, times in (("without metrics", off), ("with metrics", on)):
        report.add(
            f"no-op request {name}: p50", percentile(times, 0.5), "ms", note=f"p99 {percentile(times, 0.99):.2f} ms"
        )
    ratio = percentile(on, 0.5) / percentile(off, 0.5)
    report.add(
        "no-op request, with metrics / without", ratio, "x", goal="<= 1.03", note="of p50, exchanges interleaved"
    )


def _enqueue(own: Stack, count: int) -> None:
    records = Records(own.redis, 3600, 3600)
    for number in range(count):
        records.create(f"waiting-{number}", SLUG, "default", f"owner-{number % _OWNERS}", {})


@contextmanager
def _scraping(ports: Sequence[int]) -> Iterator[None]:
    """Scrape every few seconds for as long as the block lasts: more often than Prometheus does."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(_SCRAPE_EVERY_S):
            for port in ports:
                scrape(port)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def scrape(port: int) -> bytes:
    """What a process tells, over a connection of its own, as Prometheus asks. Raises RuntimeError."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise RuntimeError(f"{answer.status} instead of metrics")
        return answer.read()
    finally:
        connection.close()
